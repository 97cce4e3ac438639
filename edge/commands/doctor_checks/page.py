"""Check of the page: its address is one of this machine, who can reach it, and whether its token protects it."""

from __future__ import annotations

from edge.commands.doctor_checks.finding import Finding
from edge.errors import ConfigError
from edge.interfaces.web.addresses import listen_on, why_not
from edge.interfaces.web.listener import OpenConnections
from edge.interfaces.web.refusals import Refusals
from edge.interfaces.web.token import read_token, token_faults
from edge.settings.schema import WebSettings


def page(web: WebSettings) -> Finding:
    """Whether the page can listen, has the token that it needs, and only the daemon can read or guess it."""
    if not web.enabled:
        return Finding("page", "ok", "off (web.enabled)")
    try:
        for listener in listen_on(web.host, 0, OpenConnections(Refusals())):  # the daemon has the port itself
            listener.close()
    except (OSError, UnicodeError) as error:
        return Finding("page", "warning", f"{why_not(web.listen, error)}.")
    if not web.token_file:
        return Finding("page", "ok", f"{web.listen}, for every user of this machine")
    try:
        token = read_token(web.token_file)
    except ConfigError as error:
        return Finding("page", "warning", str(error), "As another user than root or the daemon's, use sudo.")
    faults = token_faults(web.token_file, token)
    if faults:
        return Finding("page", "warning", " ".join(fault.what for fault in faults), faults[0].remedy)
    return Finding("page", "ok", f"{web.listen}, with a token")
