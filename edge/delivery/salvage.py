"""Brings what can still be read of a damaged or deleted fallback log into the new one, a few events at a time.

A damaged file is renamed at once to `<log>.salvage-<n>`, so that a new log can take its place. Its events follow in
steps, each of which is one commit of the new log that also holds how far the salvage has come: a power cut or a full
disk between two steps undoes nothing. Events keep their place (`seq`), so they are replayed before newer ones.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from edge.delivery.account import Account, Progress
from edge.delivery.log_file import (
    PAGE_BYTES,
    READ_ERRORS,
    ROW_BYTES,
    LogFile,
    Row,
    connect,
    read_account,
)
from edge.delivery.set_aside import SUFFIXES, newer_files, put_away, waiting_files

logger = logging.getLogger("edge.delivery")

STEP_READS = 500  # attempts to read in one step, so that a step takes some ten milliseconds
STEP_BYTES = 128 * 1024  # the most that one step adds
MAX_GAP = 20_000  # missing places in a row that are tried one by one; then the steps double
LAST = 2**62  # no log reaches this seq
FAR = 2**40  # where a new log begins if the old one's last place is unknown
PAGE_COUNT = slice(28, 32)  # in the first page


class Salvage:
    """One old file that is being read; used by the thread that owns the log.

    Args:
        connection: to the old file.
        path: of the old file; None: it was deleted and has no name any more.
        close: closes the connection.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None, close: Callable[[], None]) -> None:
        self.connection = connection
        self._path = path
        self._close = close
        self._max_gap = MAX_GAP if path is None else min(MAX_GAP, path.stat().st_size // ROW_BYTES)
        self._waits_for_room = False

    @classmethod
    def of_deleted(cls, old: LogFile) -> Salvage:
        """The salvage of a log that was deleted while it was open.

        Its write-ahead log and shared memory lose their names too, so that the new log makes its own. SQLite closes
        a file without a name without touching files that have its former name.
        """
        for suffix in SUFFIXES[1:]:
            Path(f"{old.path}{suffix}").unlink(missing_ok=True)
        return cls(old.connection, None, old.close)

    @classmethod
    def of_damaged(cls, path: Path, sound: LogFile) -> Salvage:
        """The salvage of a file that was set aside, opened with the first page of a sound one.

        That page is the same in every log, except for the number of pages. If one byte of it is wrong, or the file has
        fewer pages than it states, SQLite reads none of the other pages. `close` writes the old page back.
        """
        sound.connection.execute("PRAGMA wal_checkpoint")  # otherwise its first page may be in the write-ahead log only
        page = bytearray(sound.first_page())
        page[PAGE_COUNT] = max(1, -(-path.stat().st_size // PAGE_BYTES)).to_bytes(4, "big")
        with contextlib.ExitStack() as opened:
            opened.callback(_replace_first_page, path, _replace_first_page(path, bytes(page)))
            connection = opened.enter_context(contextlib.closing(connect(path)))
            return cls(connection, path, opened.pop_all().close)

    @property
    def of_a_deleted_file(self) -> bool:
        """Whether the events can be read only as long as this process runs."""
        return self._path is None

    def first_progress(self, source: str, known: Account | None) -> Progress:
        """Where the salvage begins; `known` is the old file's account, in case the file's own cannot be read."""
        old, end = known, LAST
        with contextlib.suppress(*READ_ERRORS):
            old = read_account(self.connection)
        if old is not None:
            return Progress(source, old.depth, old.next_seq)
        with contextlib.suppress(*READ_ERRORS):
            (newest,) = self.connection.execute("SELECT max(seq) FROM events").fetchone()
            end = newest + 1 if isinstance(newest, int) else LAST
        return Progress(source, None, end)

    def step(self, file: LogFile) -> bool:
        """Bring the next events into the new log, in one commit; returns False if this was the last step."""
        with file.transaction() as account:
            progress = account.salvage
            if progress is None or progress.ended:  # `fallback purge` ends it from outside
                return False
            for row in self._read(progress):
                stored = file.crc_of(row.seq)
                if stored == row.crc:
                    continue  # a salvage that was interrupted has brought some already
                # A new event took this place while two damaged files waited.
                file.insert(account, row if stored is None else row._replace(seq=account.next_seq))
            if progress.ended:
                account.dropped += progress.lost
                if self.of_a_deleted_file:
                    account.salvage = None
        if progress.ended:
            report_lost(progress)
        return not progress.ended

    def _read(self, progress: Progress) -> Iterator[Row]:
        """The next intact events, oldest first; keeps `progress` up to date."""
        size = 0
        for _ in range(STEP_READS):
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
                size += row.bytes
                progress.misses = 0
                progress.saved += 1
                progress.first = progress.first or row.seq
                progress.last = row.seq
                yield row

    def _next(self, after: int) -> Row | None:
        """The first event after the seq `after`; None if it cannot be read."""
        try:
            found = self.connection.execute(
                "SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT 1", (after,)
            ).fetchone()
        except READ_ERRORS:
            return None
        row = Row(LAST, 0, None, b"") if found is None else Row(*found)
        # Damaged pages may refer to each other in a circle.
        return row if isinstance(row.seq, int) and row.seq > after else None

    def wait_for_room(self, log: Path, events: int) -> None:
        """Log, once, that the next events cannot be stored now."""
        if not self._waits_for_room:
            self._waits_for_room = True
            logger.warning(
                "%d events of a damaged or deleted fallback log wait until there is room for them in %s.", events, log
            )

    def close(self) -> None:
        """Close the old file, also one that was deleted; an unfinished salvage continues after the next start."""
        with contextlib.suppress(OSError, *READ_ERRORS):
            self._close()

    def put_away(self, log: Path) -> None:
        """Close the old file, whose salvage has ended, and rename it."""
        self.close()
        put_away(log, self._path)


def continue_account(log: Path, file: LogFile, known: Account, known_aside: Mapping[str, Account]) -> None:
    """Let a new log take over the numbering, the drops and the clock offsets of the log that it replaces.

    Args:
        log: the new log's path.
        file: the new log; nothing is changed if it has an account already.
        known: the replaced log's account, if this process had it open.
        known_aside: the accounts of the files that this process has set aside, by their names.
    """
    if file.account() != Account():
        return
    accounts, deleted = [known], 0
    if known == Account():
        for path in reversed(waiting_files(log)):
            with contextlib.suppress(*READ_ERRORS), contextlib.closing(Salvage.of_damaged(path, file)) as old:
                accounts.append(read_account(old.connection))
        for path in newer_files(log):
            with contextlib.suppress(*READ_ERRORS), contextlib.closing(connect(path)) as newer:
                accounts.append(read_account(newer))
    elif known not in known_aside.values():
        deleted = known.depth  # the old file was deleted while it was closed
    with file.transaction() as account:
        for each in accounts:
            account.continue_from(each)
        account.dropped += deleted
    if deleted:
        logger.error("%d events are lost: the fallback log %s was deleted.", deleted, log)


def begin(log: Path, file: LogFile, known: Mapping[str, Account]) -> Salvage | None:
    """Continue or begin the salvage of the oldest file that was set aside.

    Args:
        log: the new log's path.
        file: the new log.
        known: old files' accounts by file name, in case a file's own cannot be read.
    """
    waiting = waiting_files(log)
    salvage = Salvage.of_damaged(waiting[0], file) if waiting else None
    source = waiting[0].name if waiting else None
    stored = file.account().salvage
    if (stored.source if stored else None) == source:
        return salvage
    lost = None
    with file.transaction() as account:
        if stored and not stored.ended and stored.source not in [path.name for path in waiting]:  # it was deleted
            lost = stored
            account.dropped += stored.lost
        account.salvage = None
        if salvage is not None and source is not None:
            account.salvage = salvage.first_progress(source, known.get(source))
            # If the old file's last seq is unknown, new events begin far behind it.
            account.next_seq = max(account.next_seq, FAR if account.salvage.end == LAST else account.salvage.end)
    if lost:
        report_lost(lost)
    return salvage


def report_lost(progress: Progress) -> None:
    """Log how many events a salvage that has ended could not read."""
    what = f"{progress.lost} events of the fallback log cannot be read any more and count as dropped"
    if progress.expected is not None and progress.lost:
        logger.warning("%s.", what)
    elif progress.lost:
        logger.warning("At least %s; its own count cannot be read.", what)
    elif progress.expected is None:
        logger.warning("An unknown number of events of the fallback log is lost: its own count cannot be read.")


def _replace_first_page(path: Path, page: bytes) -> bytes:
    """Write the first page of a file; returns the one that was there."""
    with path.open("r+b") as file:
        found = file.read(PAGE_BYTES)
        file.seek(0)
        file.write(page)
    return found
