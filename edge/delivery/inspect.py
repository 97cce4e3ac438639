"""Reads, summarises and empties the fallback log from another process or thread, whether the daemon runs or not."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edge.delivery.log_file import READ_ERRORS, LogFile, is_damage
from edge.delivery.set_aside import corrupt_files, newer_files, waiting_files
from edge.errors import EventError, StateError
from edge.events import Event

READ_AT_ONCE = 500
SEARCHED = 10_000  # events of a log that `newest_events` orders by time, in 0.06 s on an x86 core


@dataclass(slots=True)
class Summary:
    """The counts of a log and of its files that were set aside."""

    path: str
    events: int = 0
    bytes: int = 0
    max_bytes: int = 0
    oldest: str | None = None  # the events' own times
    newest: str | None = None
    dropped: int = 0  # since the log exists
    refused: dict[str, int] = field(default_factory=dict)  # the broker's reason → how many events
    set_aside: list[str] = field(default_factory=list)  # damaged files


@contextlib.contextmanager
def _opened(path: Path, max_bytes: int) -> Iterator[LogFile | None]:
    """The log's file without becoming its owner; None: there is none yet.

    Raises:
        StateError: it cannot be read or written, or is damaged.
    """
    try:
        if not path.exists():
            yield None
            return
        with contextlib.closing(LogFile(path, max_bytes)) as file:
            yield file
    except (OSError, *READ_ERRORS) as error:
        if is_damage(error):
            raise StateError(
                f"The fallback log {path} is damaged ({error}); the daemon sets it aside when it starts, and keeps "
                "what can be read."
            ) from error
        raise StateError(
            f"The fallback log {path} cannot be read ({error}); run with sudo, or name another."
        ) from error


def summarise(path: Path, max_bytes: int) -> Summary:
    """Count what waits; a log that does not exist yet is an empty one."""
    summary = Summary(str(path), max_bytes=max_bytes)
    with contextlib.suppress(OSError):
        found = [*corrupt_files(path), *newer_files(path), *waiting_files(path)]
        summary.set_aside = sorted(map(str, found))
    with _opened(path, max_bytes) as file:
        if file is None:
            return summary
        account = file.account()
        summary.events, summary.bytes, summary.dropped = account.waiting, account.bytes, account.dropped
        refused = "SELECT refused, count(*) FROM events WHERE refused IS NOT NULL GROUP BY refused"
        summary.refused = dict(file.connection.execute(refused).fetchall())
        summary.oldest, summary.newest = (_time_of(file, order) for order in ("ASC", "DESC"))
    return summary


def stored_events(path: Path, max_bytes: int) -> Iterator[bytes]:
    """Every event's JSON, oldest first; what a running daemon stores or deletes meanwhile may or may not appear."""
    with _opened(path, max_bytes) as file:
        if file is None:
            return
        after = 0
        while rows := file.read(after, READ_AT_ONCE):
            yield from (row.payload for row in rows)
            after = rows[-1].seq


def purge(path: Path, max_bytes: int) -> int:
    """Delete all stored events, which do not count as dropped; returns how many there were."""
    with _opened(path, max_bytes) as file:
        if file is None:
            return 0
        with file.transaction() as account:  # a running daemon reads it again
            events = account.waiting
            file.connection.execute("DELETE FROM events")
            account.depth = account.bytes = 0
            account.offsets.clear()
            if account.salvage is not None:
                account.salvage.ended = True
        return events


def _time_of(file: LogFile, order: str) -> str | None:
    row = file.connection.execute(f"SELECT payload FROM events ORDER BY seq {order} LIMIT 1").fetchone()
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        return None if row is None else json.loads(row[0]).get("time")
    return None


def newest_events(path: Path, limit: int, until: str = "") -> list[Event]:
    """The newest stored events by their own time, oldest first; reads only, and checks no more than it reads.

    Args:
        path: the log.
        limit: at most so many of the `SEARCHED` that were stored last.
        until: only events of this time or earlier, as in the events; "" for all.

    Raises:
        StateError: the log cannot be read.
    """
    if not path.exists():
        return []
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)) as log:
            # What is no JSON has no time.
            time = "CASE WHEN json_valid(text) THEN json_extract(text, '$.time') END"
            texts = "(SELECT seq, payload, CAST(payload AS TEXT) AS text FROM events ORDER BY seq DESC LIMIT :searched)"
            rows = f"(SELECT seq, payload, {time} AS time FROM {texts})"
            # Not by seq: a clock that was wrong until it was set gave earlier times to later events.
            wanted = "WHERE :until = '' OR time <= :until ORDER BY time DESC, seq DESC LIMIT :limit"
            query = f"SELECT payload FROM {rows} {wanted}"
            found = log.execute(query, {"until": until, "limit": limit, "searched": SEARCHED})
            payloads = [payload for (payload,) in found]
    except READ_ERRORS as error:
        raise StateError(f"The fallback log {path} cannot be read ({error}); see the daemon's log.") from error
    events = []
    for payload in reversed(payloads):
        with contextlib.suppress(EventError):  # another version's, or damaged; the daemon deals with it
            events.append(Event.from_json(payload))
    return events
