"""Refuses requests beyond a number at once, but never the probes, so that a monitor sees a busy box as alive."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from edge.interfaces.web.access_control import PROBES
from edge.interfaces.web.problem_details import problem_response
from edge.interfaces.web.refusals import Refusals

MAX_REQUESTS = 96  # answered at once; the connections of waiting requests make room, these do not
# The metrics have a thread of their own; a wrong token at the login waits, but does no work meanwhile.
NOT_COUNTED = PROBES | {"/metrics", "/login"}


class RequestLimit:
    """ASGI middleware behind the access control.

    Args:
        app: the application that it protects.
        refusals: logs that requests are refused.
    """

    def __init__(self, app: ASGIApp, refusals: Refusals) -> None:
        self._app, self._refusals = app, refusals
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer 503."""
        if scope["type"] != "http" or scope["path"] in NOT_COUNTED:
            await self._app(scope, receive, send)
            return
        if self._requests >= MAX_REQUESTS:
            sentence = f"{MAX_REQUESTS} requests are being answered; ask again in a moment."
            self._refusals.busy.happened(f"The page refuses requests: {sentence}")
            refusal = problem_response(503, sentence, {"Retry-After": "5"}, path=scope["path"])
            await refusal(scope, receive, send)
            return
        self._requests += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._requests -= 1
