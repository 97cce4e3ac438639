"""Brings what can still be read of a damaged or deleted fallback log into the new one, a few events at a time.

A damaged file is renamed at once to `<log>.salvage-<n>`, so that a new log can take its place. Its events follow in
steps, each of which is one commit of the new log that also holds how far the salvage has come: a power cut or a full
disk between two steps undoes nothing. Events keep their place (`seq`), so they are replayed before newer ones.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from edge.delivery.log_file import (
    PAGE_BYTES,
    READ_ERRORS,
    ROW_BYTES,
    Account,
    LogFile,
    Row,
    connect,
    read_account,
)

logger = logging.getLogger("edge.delivery")

KEEP_SET_ASIDE = 2
STEP_READS = 500  # attempts to read in one step, so that a step takes some ten milliseconds
STEP_BYTES = 128 * 1024  # the most that one step adds
MAX_GAP = 20_000  # so many places in a row are tried one by one; then the steps double, to find what lies far behind
LAST = 2**62  # no log comes so far
FAR = 2**40  # where a new log begins if the old one's last place is unknown
PAGE_COUNT = slice(28, 32)  # in the first page
SUFFIXES = ("", "-wal", "-shm")
DELETED = ""  # the source of events that are read from a file without a name


@dataclass(slots=True)
class Progress:
    """How far a salvage has come; stored in the new log."""

    source: str  # the file's name, or DELETED
    expected: int | None  # events that the old file's account counts; None: it cannot be read
    end: int  # no event has this seq or a higher one
    saved: int = 0
    first: int = 0  # seq of the oldest event that was saved
    last: int = 0  # and of the newest
    after: int = 0  # everything up to this seq has been looked at
    misses: int = 0  # attempts that found nothing since the last event
    ended: bool = False  # only the old file is still to be put away

    @property
    def remaining(self) -> int:
        """How many events are still to be saved, as far as is known."""
        return 0 if self.ended else max(1, (self.expected or 0) - self.saved)

    @property
    def lost(self) -> int:
        """How many events could not be read, at least."""
        if self.expected is not None:
            return max(0, self.expected - self.saved)
        return self.last - self.first + 1 - self.saved if self.saved else 0


class Salvage:
    """One old file that is being read; used by the thread that owns the log.

    Args:
        connection: to the old file.
        progress: where to begin.
        path: of the old file; None: it was deleted and has no name any more.
        first_page: what the file had in the place of the lent one, which is written back at the end.
    """

    def __init__(
        self, connection: sqlite3.Connection, progress: Progress, path: Path | None, first_page: bytes = b""
    ) -> None:
        self._connection = connection
        self._path = path
        self._first_page = first_page
        self._max_gap = MAX_GAP if path is None else min(MAX_GAP, path.stat().st_size // ROW_BYTES)
        self._waits_for_room = False
        self.progress = progress

    @classmethod
    def of_deleted(cls, old: LogFile, known: Account) -> Salvage:
        """Of a log that was deleted while it was open.

        Its write-ahead log and shared memory lose their names too, so that the new log makes its own. SQLite closes
        a file without a name without touching files that have its former name.
        """
        for suffix in SUFFIXES[1:]:
            Path(f"{old.path}{suffix}").unlink(missing_ok=True)
        return cls(old.connection, Progress(DELETED, known.depth, known.next_seq), None)

    @property
    def remaining(self) -> int:
        """How many events are still to be saved, as far as is known."""
        return self.progress.remaining

    def read(self) -> tuple[list[Row], Progress]:
        """The next whole events, oldest first, and the progress once they are stored."""
        rows: list[Row] = []
        size = 0
        progress = Progress(**asdict(self.progress))
        for _ in range(0 if progress.ended else STEP_READS):
            if size >= STEP_BYTES:
                break
            if progress.after + 1 >= progress.end:
                progress.ended = True
                break
            row = self._next(progress.after)
            if row is None:
                progress.misses += 1
                progress.after += 2 ** max(0, progress.misses - self._max_gap)
                continue
            progress.after = row.seq
            if row.seq < progress.end and row.whole:
                rows.append(row)
                size += row.bytes
                progress.misses = 0
                progress.saved += 1
                progress.first = progress.first or row.seq
                progress.last = row.seq
        return rows, progress

    def _next(self, after: int) -> Row | None:
        """The event after a place; None: it cannot be reached."""
        try:
            found = self._connection.execute(
                "SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT 1", (after,)
            ).fetchone()
        except READ_ERRORS:
            return None
        row = Row(LAST, 0, None, b"") if found is None else Row(*found)
        # Damaged pages may lead in a circle.
        return row if isinstance(row.seq, int) and row.seq > after else None

    def wait_for_room(self, log: Path) -> None:
        """Report, once, that the next events cannot be stored now."""
        if not self._waits_for_room:
            self._waits_for_room = True
            logger.warning(
                "%d events of a damaged or deleted fallback log wait until there is room beside %s.",
                *(self.remaining, log),
            )

    def close(self) -> None:
        """Close the old file; a salvage that has not ended goes on with the next start."""
        with contextlib.suppress(*READ_ERRORS):
            self._connection.close()
        if self._path is not None and self._first_page:
            with self._path.open("r+b") as file:
                file.write(self._first_page)
            self._first_page = b""

    def put_away(self, log: Path) -> None:
        """Rename the old file to `<log>.corrupt-<time>`, and delete all but the newest few of those."""
        self.close()
        if self._path is not None:
            _move(self._path, Path(f"{log}.corrupt-{time.strftime('%Y%m%dT%H%M%S')}"))
        kept = sorted(log.parent.glob(f"{log.name}.corrupt-*T??????"), key=lambda file: file.stat().st_mtime_ns)
        for old in kept[:-KEEP_SET_ASIDE]:
            for suffix in SUFFIXES:
                Path(f"{old}{suffix}").unlink(missing_ok=True)


def set_aside(log: Path, name: str | None = None) -> Path:
    """Rename a log's files; the events in them are found again at the next start, whatever happens meanwhile."""
    number = 1
    while (to := Path(f"{log}.salvage-{number}")).exists():
        number += 1
    to = to if name is None else log.with_name(name)
    _move(log, to)
    return to


def finish_set_aside(log: Path) -> None:
    """Rename what a cut between two renames left behind, before a new log is made."""
    if (whole := Path(f"{log}.whole")).exists():  # versions before 1 had saved everything there
        set_aside(whole, f"{log.name}.salvage-{len(_waiting(log)) + 1}")
    if not log.exists() and (waiting := _waiting(log)) and not Path(f"{waiting[-1]}-wal").exists():
        _move(log, waiting[-1])


def begin(log: Path, file: LogFile, known: Mapping[str, Account]) -> Salvage | None:
    """Go on with, or begin, the salvage of the oldest file that was set aside.

    Args:
        log: the new log's path.
        file: the new log, whose account takes over what the old one's says.
        known: what is known of old files, by name, should their own accounts be unreadable.
    """
    progress = stored_progress(file)
    if progress is not None and progress.source == DELETED:
        _count_lost(file, progress)  # the process that had it open has ended
        progress = None
    waiting = _waiting(log)
    if progress is not None and not (waiting and progress.source == waiting[0].name):
        progress = None  # its file is put away already
        with file.transaction():
            file.set_salvage(None)
    if not waiting:
        return None
    connection, first_page = _opened(waiting[0], file)
    if progress is None:
        progress = _begin(connection, file, waiting[0].name, known.get(waiting[0].name, Account()))
    return Salvage(connection, progress, waiting[0], first_page)


def store(file: LogFile, rows: list[Row], progress: Progress) -> Account:
    """Add salvaged events and the progress to the new log, in one commit."""
    with file.transaction():
        account = file.account()
        already_ended = (file.salvage() or {}).get("ended", False)  # `fallback purge` ends it from outside
        if already_ended:
            rows, progress.ended = [], True
        account.next_seq = max(account.next_seq, progress.last + 1)
        for row in rows:
            stored = file.crc_of(row.seq)
            if stored == row.crc:
                continue  # a salvage that began again finds some there already
            if stored is not None:  # a new event took this place while two damaged files waited
                row = row._replace(seq=account.next_seq)  # noqa: PLW2901
                account.next_seq += 1
            file.insert([row])
            account.depth += 1
            account.bytes += row.bytes
        newly_ended = progress.ended and not already_ended
        if newly_ended:
            account.dropped += progress.lost
        file.set_account(account)
        file.set_salvage(None if progress.ended and progress.source == DELETED else asdict(progress))
    if newly_ended:
        _report(progress)
    return account


def _begin(connection: sqlite3.Connection, file: LogFile, source: str, known: Account) -> Progress:
    """Read the old account, and let the new log's go on from it."""
    old: Account | None = known if known.next_seq > 1 else None
    with contextlib.suppress(*READ_ERRORS):
        old = read_account(connection)
    progress = Progress(source, None, LAST)
    if old is not None:
        progress = Progress(source, old.depth, old.next_seq)
    else:
        with contextlib.suppress(*READ_ERRORS):
            (newest,) = connection.execute("SELECT max(seq) FROM events").fetchone()
            progress.end = newest + 1 if isinstance(newest, int) else LAST
    with file.transaction():
        account = file.account()
        if old is not None:
            account.dropped += old.dropped
            account.offsets = old.offsets | account.offsets
        # Where the old seqs are unknown, new events take places far behind them.
        account.next_seq = max(account.next_seq, FAR if progress.end == LAST else progress.end)
        file.set_account(account)
        file.set_salvage(asdict(progress))
    return progress


def _opened(path: Path, sound: LogFile) -> tuple[sqlite3.Connection, bytes]:
    """Open a damaged file with the first page of a sound one.

    That page is the same in every log but for the number of pages. With one byte of it wrong, or fewer pages than it
    says, SQLite reads nothing of all the others.
    """
    sound.connection.execute("PRAGMA wal_checkpoint")  # else its first page is in the write-ahead log
    with sound.path.open("rb") as file:
        page = bytearray(file.read(PAGE_BYTES))
    pages = -(-path.stat().st_size // PAGE_BYTES)
    page[PAGE_COUNT] = max(1, pages).to_bytes(4, "big")
    with path.open("r+b") as file:
        found = file.read(PAGE_BYTES)
        file.seek(0)
        file.write(page)
    return connect(path), found


def stored_progress(file: LogFile) -> Progress | None:
    """How far the salvage into this log has come; None: there is none."""
    stored = file.salvage()
    return (
        None
        if stored is None
        else Progress(**{key.name: stored[key.name] for key in fields(Progress) if key.name in stored})
    )


def _waiting(log: Path) -> list[Path]:
    """The files that were set aside and not salvaged yet, oldest first."""
    found = log.parent.glob(f"{log.name}.salvage-*")
    numbered = [(int(number), file) for file in found if (number := file.name.rpartition("-")[2]).isdigit()]
    return [file for _, file in sorted(numbered)]


def _count_lost(file: LogFile, progress: Progress) -> None:
    with file.transaction():
        account = file.account()
        account.dropped += progress.lost
        file.set_account(account)
        file.set_salvage(None)
    _report(progress)


def _report(progress: Progress) -> None:
    what = f"{progress.lost} events of the fallback log cannot be read any more and count as dropped"
    if progress.expected is not None and progress.lost:
        logger.warning("%s.", what)
    elif progress.lost:
        logger.warning("At least %s; its own count cannot be read.", what)
    elif progress.expected is None:
        logger.warning("An unknown number of events of the fallback log is lost: its own count cannot be read.")


def _move(old: Path, new: Path) -> None:
    """Rename a log's three files, the main one first: a cut in between is finished by `finish_set_aside`."""
    for suffix in SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{old}{suffix}").replace(f"{new}{suffix}")
    descriptor = os.open(new.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
