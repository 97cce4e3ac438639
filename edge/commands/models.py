"""`edge-classifier models`: lists, adds, switches and removes bundles.

`use` and `rollback` ask the running daemon over its Unix socket (`daemon/model_switch.py` answers); without a daemon
the link `current` is switched here.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from edge.commands.config_option import add_config_option
from edge.errors import BundleError, RequestError, StateError
from edge.settings.schema import Settings

if TYPE_CHECKING:
    from edge.vision.installed import Installed

HELP = "list, add, use, roll back or remove model bundles"
DESCRIPTION = """\
Bundles are directories in the state directory's models/; the link `current`
names the one that the next start uses, `previous` the one before it. `list`
asks the running daemon which one it uses.

list      lists the bundles, with every checksum verified.
add       installs a bundle: a directory, a tar archive of one, or an archive's
          URL with its --sha256, because a model is code. It is not used yet.
use       switches to a bundle. A running daemon loads it, checks its answer to
          its golden photo, and swaps the models between two frames; no event
          is lost, and if anything is wrong the old model stays. Without a
          daemon this command checks it.
rollback  goes back to the bundle before.
remove    deletes a bundle; not the one in use or the one before, unless forced."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|add|use|rollback|remove")
    listing = actions.add_parser("list", help="list the bundles", description="List the bundles.")
    add = actions.add_parser("add", help="install one", description="Install a bundle, without using it yet.")
    add.add_argument("source", metavar="BUNDLE|URL", help="a directory, a tar archive, or an archive's URL")
    add.add_argument("--sha256", default="", metavar="HEX", help="of the archive; a URL needs it")
    use = actions.add_parser("use", help="switch to one", description="Switch to a bundle, in a running daemon too.")
    use.add_argument("name", metavar="NAME", help="as `models list` shows it")
    back = actions.add_parser("rollback", help="switch back", description="Switch back to the bundle before.")
    remove = actions.add_parser("remove", help="delete one", description="Delete a bundle.")
    remove.add_argument("name", metavar="NAME", help="as `models list` shows it")
    remove.add_argument("--force", action="store_true", help="even the one in use or the one before")
    for action in actions.choices.values():
        add_config_option(action)
    for action in (listing, add, use, back):
        action.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do the chosen action."""
    match arguments.action:
        case "use":
            return _use(settings, arguments.name, arguments.json)
        case "rollback":
            return _use(settings, None, arguments.json)
    from edge.vision.installed import installed_bundles

    installed = installed_bundles(settings.model)
    match arguments.action:
        case "list":
            return _list(installed, _running(settings), arguments.json)
        case "add":
            return _add(installed, arguments)
        case _:
            installed.remove(arguments.name, force=arguments.force)
            print(f"{arguments.name} was removed.")
            return 0


def _running(settings: Settings) -> str | None:
    """The bundle that the daemon uses now; None if no daemon runs, or this user may not ask it."""
    from edge.interfaces.unix_socket import SOCKET, ask

    with suppress(StateError, RequestError):  # the daemon may be of an older version
        answer = ask(settings.fallback.path.with_name(SOCKET), "model", {})
        return None if answer is None else str(answer["model"])
    return None


def _list(installed: Installed, running: str | None, as_json: bool) -> int:
    rows = [_row(installed, name, running) for name in installed.names()]
    if as_json:
        print(json.dumps({"directory": str(installed.directory), "bundles": rows}, ensure_ascii=False))
        return 0
    if not rows:
        print(f"There is no bundle in {installed.directory}; make one with `edge-classifier export`.")
    for row in rows:
        if running is None:
            mark = "*" if row["current"] else "<" if row["previous"] else " "
        else:
            mark = "*" if row["running"] else ">" if row["current"] else "<" if row["previous"] else " "
        print(f"{mark} {row['name']:36}{row['fault'] or _figures(row)}")
        if not row["fault"]:
            print(f"    {_origin(row)}")
    if rows:
        in_use = "* used from the next start (no daemon answers)" if running is None else "* in use"
        waits = "   > used from the next start" if running not in (None, installed.current) else ""
        print(f"\n{in_use}{waits}   < before it")
    return 0


def _row(installed: Installed, name: str, running: str | None) -> dict[str, Any]:
    from edge.vision.bundle import load_bundle

    row: dict[str, Any] = {
        "name": name,
        "running": None if running is None else name == running,
        "current": name == installed.current,
        "previous": name == installed.previous,
        "fault": "",
    }
    try:
        bundle = load_bundle(installed.directory / name)
    except BundleError as error:
        return row | {"fault": str(error)}
    agreement, measured = bundle.manifest.agreement, bundle.manifest.measured
    return row | {
        "classes": len(bundle.labels),
        "bytes": bundle.model_bytes,
        "engine": str(bundle.manifest.engine),
        "ms": None if measured is None else measured.ms,
        "measured_on": None if measured is None else measured.board,
        "weights": bundle.manifest.weights.source,
        "instead_of": bundle.manifest.weights.instead_of,
        "agreement": None if agreement is None else agreement.top1,
        "agreement_on": None if agreement is None else agreement.on,
        "agreement_photos": None if agreement is None else agreement.photos,
    }


def _figures(row: dict[str, Any]) -> str:
    """Size, engine and time of a bundle in `models list`."""
    engine = row["engine"] if row["ms"] is None else f"{row['engine']} {row['ms']:.1f} ms"
    return f"{row['bytes'] / 1e6:5.1f} MB, {engine}"


def _origin(row: dict[str, Any]) -> str:
    """Classes, accuracy and weights of a bundle in `models list`."""
    agreement = ""
    if row["agreement"] is not None:
        of = {"photos": "photos", "shipped": "shipped views", "both": "photos and shipped views"}[row["agreement_on"]]
        agreement = f", as FP32 on {row['agreement']:.1f} % of {row['agreement_photos']} {of}"
    instead = "" if row["instead_of"] is None else f", instead of {row['instead_of']}"
    return f"{row['classes']} classes{agreement}, from {row['weights']}{instead}"


def _add(installed: Installed, arguments: argparse.Namespace) -> int:
    from edge.workshop.add_bundle import add_bundle
    from edge.workshop.fetch import progress_bar

    with progress_bar() as progress:
        name = add_bundle(arguments.source, arguments.sha256, installed, progress)
    _report(arguments.json, name, f"{name} is installed; use it with `edge-classifier models use {name}`.")
    return 0


def _use(settings: Settings, name: str | None, as_json: bool) -> int:
    """Switch to `name`, or back to the previous bundle if that is None, in the daemon if one runs."""
    from edge.interfaces.unix_socket import SOCKET, ask

    fields = {} if name is None else {"name": name}
    try:
        answer = ask(settings.fallback.path.with_name(SOCKET), "rollback" if name is None else "use", fields)
    except RequestError as error:  # the same exit code as without a daemon
        raise BundleError(str(error)) from error
    if answer is None:
        used = _use_without_daemon(settings, name)
        sentence = f"{used} is verified. No daemon runs; the next start uses it."
    else:
        used = str(answer["model"])
        sentence = f"{used} runs now."
    _report(as_json, used, sentence, daemon=answer is not None)
    return 0


def _use_without_daemon(settings: Settings, name: str | None) -> str:
    from edge.vision.installed import switchable_bundles
    from edge.vision.trial import verify_bundle

    installed = switchable_bundles(settings.model)
    chosen = name or installed.before_current()
    verify_bundle(installed.find(chosen), settings.model)
    installed.switch(chosen)
    return chosen


def _report(as_json: bool, name: str, sentence: str, **more: Any) -> None:
    print(json.dumps({"name": name, **more}) if as_json else sentence)
    sys.stdout.flush()
