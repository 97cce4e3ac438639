"""A new fallback log from what can still be read of a damaged or deleted one."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from edge.delivery.log_file import PAGE_BYTES, READ_ERRORS, Account, LogFile, Row, connect, read_account

KEEP_SET_ASIDE = 2
MAX_RESTORED_BYTES = 1 << 40  # sparse; a damaged header may say anything
SUFFIXES = ("", "-wal", "-shm")


def rebuild(path: Path, max_bytes: int, known: Account, opened: LogFile | None) -> int:
    """Replace a damaged or deleted file by a new one that holds every event that can still be read.

    Args:
        path: where the new file goes.
        max_bytes: as for LogFile.
        known: what is known of the old file, should its own account be unreadable.
        opened: the old file where it is open but has no name any more; it is closed.

    Returns:
        How many events could not be read; they are counted as dropped.
    """
    fresh_path = path.with_name(path.name + ".new")
    for suffix in SUFFIXES:
        Path(f"{fresh_path}{suffix}").unlink(missing_ok=True)
    if opened is None:
        _restore_length(path)
    connection = opened.connection if opened else connect(path)
    fresh = LogFile(fresh_path, max_bytes)
    try:
        with contextlib.suppress(*READ_ERRORS):
            known = read_account(connection)
        account = Account(known.next_seq, dropped=known.dropped, offsets=known.offsets)
        fresh.adopt(_readable_rows(connection), account)
        lost = max(0, known.depth - account.depth)
        account.dropped += lost
        with fresh.transaction():
            fresh.set_account(account)
    finally:
        # In this order: closing a deleted file deletes whatever write-ahead log has its name by then.
        fresh.close()
        connection.close()
    if opened is None:
        _set_aside(path)
    fresh_path.replace(path)
    _fsync_directory(path.parent)
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


def _restore_length(path: Path) -> None:
    """Append zeros to a truncated file: SQLite reads nothing of one that is shorter than its header says."""
    with path.open("r+b") as file:
        pages = int.from_bytes(file.read(32)[28:], "big")
        if path.stat().st_size < pages * PAGE_BYTES <= MAX_RESTORED_BYTES:
            file.truncate(pages * PAGE_BYTES)


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
