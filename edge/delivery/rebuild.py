"""A new fallback log from what can still be read of a damaged or deleted one."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge.delivery.log_file import PAGE_BYTES, READ_ERRORS, Account, LogFile, Row, connect, read_account

KEEP_SET_ASIDE = 2
PAGE_COUNT = slice(28, 32)  # in the first page
SUFFIXES = ("", "-wal", "-shm")


class Lost(NamedTuple):
    """What could not be read any more; it counts as dropped."""

    events: int
    exact: bool  # False: there may have been more, because the old log's own count cannot be read either


def rebuild(path: Path, max_bytes: int, known: Account, opened: LogFile | None) -> Lost:
    """Replace a damaged or deleted file by a new one that holds every event that can still be read.

    Args:
        path: where the new file goes.
        max_bytes: as for LogFile.
        known: what is known of the old file, should its own account be unreadable.
        opened: the old file where it is open but has no name any more; it is closed.
    """
    fresh_path = path.with_name(path.name + ".new")
    for suffix in SUFFIXES:
        Path(f"{fresh_path}{suffix}").unlink(missing_ok=True)
    LogFile(fresh_path, max_bytes).close()
    if opened is None:
        with _first_page_of(fresh_path, path):
            lost = _salvage(LogFile(fresh_path, max_bytes), connect(path), known)
    else:
        lost = _salvage(LogFile(fresh_path, max_bytes), opened.connection, known)
    fresh_path.replace(_whole(path))
    finish_rebuild(path)
    return lost


def finish_rebuild(path: Path) -> None:
    """Put a file that holds all that could be read into its place; again at a start, where a kill came before."""
    if (whole := _whole(path)).exists():
        _fsync_directory(path.parent)
        _set_aside(path)
        whole.replace(path)
        _fsync_directory(path.parent)


def _whole(path: Path) -> Path:
    return path.with_name(path.name + ".whole")


def _salvage(fresh: LogFile, old: sqlite3.Connection, known: Account) -> Lost:
    """Bring into the fresh file what can be read of the old one, and close both."""
    exact = known.next_seq > 1
    try:
        with contextlib.suppress(*READ_ERRORS):
            known = read_account(old)
            exact = True
        account = Account(known.next_seq, dropped=known.dropped, offsets=known.offsets)
        fresh.adopt(_readable_rows(old), account)
        lost = Lost(max(0, (known.depth if exact else fresh.span()) - account.depth), exact)
        account.dropped += lost.events
        with fresh.transaction():
            fresh.set_account(account)
    finally:
        # In this order: closing a deleted file deletes whatever write-ahead log has its name by then.
        fresh.close()
        old.close()
    return lost


def _readable_rows(connection: sqlite3.Connection) -> Iterator[Row]:
    """Every whole event, however damaged the file: from the front up to the damage, then from the back to it."""
    last = 0
    for order in ("ASC", "DESC"):
        previous: int | None = None
        with contextlib.suppress(*READ_ERRORS):
            for found in connection.execute(f"SELECT * FROM events WHERE seq > ? ORDER BY seq {order}", (last,)):
                row = Row(*found)
                if previous is not None and (row.seq > previous) != (order == "ASC"):
                    break  # damaged pages may lead in a circle
                previous = row.seq
                last = row.seq if order == "ASC" else last
                if row.whole:
                    yield row


@contextlib.contextmanager
def _first_page_of(sound: Path, damaged: Path) -> Iterator[None]:
    """Lend a damaged file the first page of a sound one while it is read.

    That page is the same in every log but for the number of pages. With one byte of it wrong, or fewer pages
    than it says, SQLite reads nothing of all the others.
    """
    page = bytearray(sound.read_bytes()[:PAGE_BYTES])
    pages = -(-damaged.stat().st_size // PAGE_BYTES)
    page[PAGE_COUNT] = max(1, pages).to_bytes(4, "big")
    with damaged.open("r+b") as file:
        found = file.read(PAGE_BYTES)
        file.seek(0)
        file.write(page)
    try:
        yield
    finally:
        with damaged.open("r+b") as file:
            file.write(found)


def _set_aside(path: Path) -> None:
    """Rename a damaged file to `….corrupt-<time>` and delete all but the newest few of those."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    for suffix in reversed(SUFFIXES):  # the file itself last: as long as it is there this is done again
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{path}.corrupt-{stamp}{suffix}")
    kept = sorted(path.parent.glob(f"{path.name}.corrupt-*T??????"), key=lambda file: file.stat().st_mtime_ns)
    for old in kept[:-KEEP_SET_ASIDE]:
        for suffix in SUFFIXES:
            Path(f"{old}{suffix}").unlink(missing_ok=True)


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
