"""`edge-classifier fallback`: shows, exports, replays or empties the fallback log."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commands.config_option import add_config_option
from edge.errors import BrokerError, StateError
from edge.settings.schema import FallbackSettings, Settings

if TYPE_CHECKING:
    from tqdm import tqdm

    from edge.status.snapshot import Status

HELP = "show, export, replay or purge the events that wait on disk"
DESCRIPTION = """\
Events that the broker has not acknowledged wait in the fallback log. The daemon
sends them once the broker is back.

show    how many wait, since when, how many bytes, and how many were dropped
        because the log was full or damaged; safe while the daemon runs.
export  writes them as JSON lines, oldest first, and leaves them in the log;
        safe while the daemon runs.
replay  sends them now, when the daemon does not run; each leaves the log once
        the broker has acknowledged it.
purge   deletes them for good; asks first. Safe while the daemon runs."""

CONNECT_WITHIN_S = 15.0
IDLE_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `show`, `export`, `replay` and `purge`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="show|export|replay|purge")
    show = actions.add_parser("show", help="what waits", description="Show what waits in the log.")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    export = actions.add_parser("export", help="write the events", description="Write the events as JSON lines.")
    export.add_argument("file", nargs="?", type=Path, metavar="FILE", help="where to (default: standard output)")
    actions.add_parser("replay", help="send them now", description="Send the events now; the daemon must not run.")
    purge = actions.add_parser("purge", help="delete them", description="Delete the events for good.")
    purge.add_argument("--yes", action="store_true", help="do not ask")
    for action in actions.choices.values():
        add_config_option(action)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do the chosen action."""
    match arguments.action:
        case "show":
            return _show(settings.fallback, arguments.json)
        case "export":
            return _export(settings.fallback, arguments.file)
        case "replay":
            return _replay(settings)
        case _:
            return _purge(settings.fallback, arguments.yes)


def _show(log: FallbackSettings, as_json: bool) -> int:
    from edge.delivery.inspect import summarise

    summary = summarise(log.path, log.max_bytes)
    if as_json:
        print(json.dumps(asdict(summary), ensure_ascii=False))
        return 0
    print(f"log        {summary.path}")
    print(f"events     {summary.events}")
    print(f"bytes      {summary.bytes} of at most {summary.max_bytes}")
    print(f"oldest     {summary.oldest or '–'}")
    print(f"newest     {summary.newest or '–'}")
    print(f"dropped    {summary.dropped} because the log was full or damaged")
    for reason, count in summary.refused.items():
        print(f"refused    {count} by the broker: {reason}")
    for file in summary.set_aside:
        print(f"damaged    {file}")
    return 0


def _export(log: FallbackSettings, file: Path | None) -> int:
    from edge.delivery.inspect import stored_events

    events = stored_events(log.path, log.max_bytes)
    if file is None:
        for event in events:
            sys.stdout.buffer.write(event + b"\n")
        sys.stdout.buffer.flush()
        return 0
    count = 0
    try:
        with file.open("wb") as output:
            for event in events:
                output.write(event + b"\n")
                count += 1
    except OSError as error:
        raise StateError(f"{file} cannot be written ({error.strerror}); choose another place.") from error
    print(f"{count} events written to {file}; they are still in the log.")
    return 0


def _purge(log: FallbackSettings, sure: bool) -> int:
    from edge.delivery.inspect import purge, summarise

    waiting = summarise(log.path, log.max_bytes).events
    if not waiting:
        print("The fallback log is empty.")
        return 0
    if not sure:
        answer = (
            input(f"Delete {waiting} events that the broker has not acknowledged? [y/N] ") if sys.stdin.isatty() else ""
        )
        if answer.strip().lower() not in ("y", "yes"):
            print("Nothing was deleted; give --yes to delete without being asked.", file=sys.stderr)
            return 1
    print(f"{purge(log.path, log.max_bytes)} events were deleted.")
    return 0


def _replay(settings: Settings) -> int:
    from tqdm import tqdm

    from edge.board.host import boot_id
    from edge.delivery.delivery import Delivery
    from edge.delivery.fallback import FallbackLog
    from edge.delivery.inspect import summarise
    from edge.status.snapshot import Status

    if not summarise(settings.fallback.path, settings.fallback.max_bytes).events:
        print("The fallback log is empty.")
        return 0
    with contextlib.closing(FallbackLog(settings.fallback.path, settings.fallback.max_bytes)) as log:
        log.open()  # raises when the daemon runs
        while log.salvage():  # the rest of a damaged log is sent too
            pass
        waiting = log.account.waiting
    status = Status()
    delivery = Delivery(settings.mqtt, settings.fallback, settings.device.name, boot_id(), status)
    delivery.start()
    try:
        with tqdm(total=waiting, unit="event", leave=False, disable=None) as progress:
            answered, refused = _watch(status, waiting, progress)
    finally:
        delivery.stop(5.0)
    print(f"{answered - refused} events were replayed.")
    if refused:
        raise BrokerError(f"The broker refused {refused} events; `edge-classifier fallback show` shows why.")
    return 0


def _watch(status: Status, waiting: int, progress: tqdm[Any]) -> tuple[int, int]:
    """Wait until the broker has answered for every event; returns how many it answered for, and refused."""
    patience_until = time.monotonic() + CONNECT_WITHIN_S
    answered = refused = 0
    while answered < waiting:
        time.sleep(IDLE_S)
        snapshot = status.snapshot()
        refused = snapshot.counters.get("events_refused", 0)
        answered_now = snapshot.counters.get("events_replayed", 0) + refused
        if answered_now > answered:
            progress.update(answered_now - answered)
            answered = answered_now
            patience_until = time.monotonic() + CONNECT_WITHIN_S
        elif time.monotonic() > patience_until:
            why = snapshot.gauges.get("broker_error") or "The broker takes no more events; look at its log."
            raise BrokerError(f"{why} {waiting - answered} events still wait.")
    return answered, refused
