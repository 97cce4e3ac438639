"""The names of fallback logs that are set aside, and the renames that lead from one to the next.

`<log>.salvage-<n>` is a damaged file whose events are still to be brought into the new log; afterwards it becomes
`<log>.corrupt-<time>`. `<log>.newer-<time>` was written by a newer version of the program, and becomes
`<log>.salvage-<n>` when that version runs again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path

from edge.delivery.log_file import READ_ERRORS, VERSION, connect, format_version

logger = logging.getLogger("edge.delivery")

KEEP_CORRUPT = 2
SUFFIXES = ("", "-wal", "-shm")
TIME = "%Y%m%dT%H%M%S"


def waiting_files(log: Path) -> list[Path]:
    """The files that were set aside and not salvaged yet, oldest first."""
    found = log.parent.glob(f"{log.name}.salvage-*")
    numbered = [(int(number), file) for file in found if (number := file.name.rpartition("-")[2]).isdigit()]
    return [file for _, file in sorted(numbered)]


def newer_files(log: Path) -> list[Path]:
    """The files of newer versions, oldest first."""
    return sorted(log.parent.glob(f"{log.name}.newer-*T??????"))


def corrupt_files(log: Path) -> list[Path]:
    """The files whose salvage has ended, oldest first."""
    return sorted(log.parent.glob(f"{log.name}.corrupt-*T??????"), key=lambda file: file.stat().st_mtime_ns)


def set_aside(log: Path, *, newer: bool = False) -> Path:
    """Rename a log's files; its events are found again at the next start, even after a power cut."""
    to = Path(f"{log}.newer-{time.strftime(TIME)}") if newer else _free_name(log)
    _move(log, to)
    return to


def finish_set_aside(log: Path) -> None:
    """Rename what a cut between two renames left behind, and newer files that can be read now; before a log is made."""
    if not log.exists() and (waiting := waiting_files(log)) and not Path(f"{waiting[-1]}-wal").exists():
        _move(log, waiting[-1])
    for file in newer_files(log):
        readable = False
        with contextlib.suppress(*READ_ERRORS), contextlib.closing(connect(file)) as connection:
            readable = format_version(connection) <= VERSION
        if readable:
            logger.info("The fallback log %s can be read by this version; its events follow.", file)
            _move(file, _free_name(log))


def put_away(log: Path, salvaged: Path | None) -> None:
    """Rename a file whose salvage has ended, and delete all but the newest few of those."""
    if salvaged is not None:
        _move(salvaged, Path(f"{log}.corrupt-{time.strftime(TIME)}"))
    for old in corrupt_files(log)[:-KEEP_CORRUPT]:
        for suffix in SUFFIXES:
            Path(f"{old}{suffix}").unlink(missing_ok=True)


def _free_name(log: Path) -> Path:
    """Behind those that wait already, so that they are salvaged in the order in which they were set aside."""
    newest = waiting_files(log)[-1:]
    number = int(newest[0].name.rpartition("-")[2]) + 1 if newest else 1
    return Path(f"{log}.salvage-{number}")


def _move(old: Path, new: Path) -> None:
    """Rename a log's three files, the main one first: a cut in between is finished by `finish_set_aside`."""
    if old.exists():  # SQLite would apply a write-ahead log that a cut left under the new name
        for suffix in SUFFIXES[1:]:
            Path(f"{new}{suffix}").unlink(missing_ok=True)
    for suffix in SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{old}{suffix}").replace(f"{new}{suffix}")
    descriptor = os.open(new.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
