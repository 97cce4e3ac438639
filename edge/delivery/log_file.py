"""The SQLite file of the fallback log: its schema, its checks, and how events are read and written."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from edge.delivery.account import Account

PAGE_BYTES = 1024
WAL_BYTES = 1024 * 1024  # copied back at this size: larger would delay live events, smaller would fsync more often
ROW_BYTES = 24  # what SQLite adds to an event: seq, checksum, record and cell header
CHECK_UP_TO_BYTES = 8 * 1024 * 1024  # a full check of a larger file would delay the start on an SD card
BUSY_S = 1.0  # how long a process waits for another one
VERSION = 1  # PRAGMA user_version; logs from before it have 0. It grows when an older program must not touch the file
SCHEMA = (
    "CREATE TABLE events (seq INTEGER PRIMARY KEY, crc INTEGER NOT NULL, refused TEXT, payload BLOB NOT NULL)",
    "CREATE TABLE account (one INTEGER PRIMARY KEY, crc INTEGER NOT NULL, document BLOB NOT NULL)",  # one row
)
# The bytes with which every file of our page size in WAL mode begins. They are checked here because SQLite takes a
# file with a damaged write version for a read-only one: the log would wait for permissions that nobody has to correct.
HEADER = b"SQLite format 3\0\x04\x00\x02\x02\x00\x40\x20\x20"


class DamagedError(Exception):
    """The file is not what we wrote."""


class NewerError(DamagedError):
    """The file was written by a newer version of the program, in a form that this one does not know."""


#: What work on a damaged file may raise. SQLite quotes the file in its messages, which sqlite3 decodes strictly.
READ_ERRORS = (sqlite3.Error, DamagedError, UnicodeDecodeError)


class Row(NamedTuple):
    """One event with the checksum that was stored with it."""

    seq: int  # its place in the log
    crc: int
    refused: str | None  # why the broker refused it when it was last tried
    payload: bytes  # JSON

    @classmethod
    def of(cls, seq: int, payload: bytes, refused: str) -> Row:
        """A row for an event that is stored now."""
        return cls(seq, zlib.crc32(payload), refused or None, payload)

    @property
    def whole(self) -> bool:
        """Whether the payload is still what was stored; SQLite does not notice a changed byte inside a value."""
        right = isinstance(self.seq, int) and isinstance(self.refused, str | None) and isinstance(self.payload, bytes)
        return right and zlib.crc32(self.payload) == self.crc

    @property
    def bytes(self) -> int:
        """How many of the log's bytes it takes."""
        return len(self.payload) + ROW_BYTES


def is_damage(error: Exception) -> bool:
    """Whether an error is about the file's content rather than about the disk or the permissions."""
    if isinstance(error, sqlite3.OperationalError):
        return str(error).startswith(("no such ", "unsupported file format", "malformed"))
    return isinstance(error, sqlite3.DatabaseError | DamagedError | UnicodeDecodeError)


class LogFile:
    """One open file; used by one thread. Methods raise OSError or one of READ_ERRORS.

    Args:
        path: created where there is none.
        max_bytes: for the file and its write-ahead log together.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        wal_bytes = min(WAL_BYTES, max_bytes // 4)
        # Twice, because one transaction may go past the size at which the log is copied back and restarted.
        self.reserve_bytes = 2 * wal_bytes
        self.limit_bytes = max_bytes - self.reserve_bytes
        with contextlib.ExitStack() as opened:
            # The file is created here, so that a missing right is an OSError that says so. It stays open as long as the
            # connection: closing any descriptor of a file drops the locks that SQLite holds on it, and the next process
            # that closes the log would then delete the write-ahead log that we write to.
            self._raw = opened.enter_context(path.open("ab+"))
            if self.first_page()[: len(HEADER)] not in (b"", HEADER):
                raise DamagedError("it does not begin like a fallback log")
            self.connection = opened.enter_context(contextlib.closing(connect(path)))
            # One process at a time: `fallback show` may come while a daemon creates the file, and SQLite does not wait
            # for another process that turns a new file's write-ahead log on.
            self._lock_file()
            self._set_up(wal_bytes)
            fcntl.flock(self._raw, fcntl.LOCK_UN)
            self._check()
            self._opened = opened.pop_all()

    def _lock_file(self) -> None:
        """Not for longer than BUSY_S: whoever may read the file can hold this lock, also a process that is stopped."""
        until = time.monotonic() + BUSY_S
        while True:
            try:
                return fcntl.flock(self._raw, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise
                time.sleep(0.01)

    def _set_up(self, wal_bytes: int) -> None:
        # Chosen so that an SD card lasts. Measured with events of 420 bytes, in bytes written for each byte of an
        # event, with commits of 3 / 60 events: 8.8 / 2.9 for a write-ahead log with pages of 1 KiB, 13.1 / 3.0 with
        # 4 KiB, and 2 to 3 times that for a rollback journal. synchronous=FULL fsyncs the write-ahead log at each
        # commit, as promised (NORMAL would lose the last commits in a power cut, OFF the whole file). auto_vacuum stays
        # off: freed pages are used again, so the bound holds without moving pages.
        execute = self.connection.execute
        execute(f"PRAGMA page_size={PAGE_BYTES}")
        execute("PRAGMA journal_mode=WAL")
        execute("PRAGMA synchronous=FULL")
        execute(f"PRAGMA wal_autocheckpoint={wal_bytes // PAGE_BYTES}")
        execute(f"PRAGMA journal_size_limit={wal_bytes}")
        if execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            execute("BEGIN IMMEDIATE")
            for statement in SCHEMA:
                execute(statement)
            execute(f"PRAGMA user_version={VERSION}")
            self._set_account(Account())
            execute("COMMIT")

    def _check(self) -> None:
        if (version := format_version(self.connection)) > VERSION:
            raise NewerError(f"a newer version of the program wrote it, in format {version}")
        if tuple(sql for (sql,) in self.connection.execute("SELECT sql FROM sqlite_master ORDER BY rowid")) != SCHEMA:
            raise DamagedError("its tables are not those of a fallback log")
        self.account()
        if self.path.stat().st_size <= CHECK_UP_TO_BYTES:
            (verdict,) = self.connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise DamagedError(str(verdict).replace("\n", " "))

    def close(self) -> None:
        """Close the file; the last one to do so copies the write-ahead log back."""
        self._opened.close()

    def first_page(self) -> bytes:
        """The beginning of the file, as of the last time the write-ahead log was copied back."""
        return os.pread(self._raw.fileno(), PAGE_BYTES, 0)

    def spare_bytes(self) -> int:
        """The free bytes of the disk less the reserve that is kept free; negative if part of the reserve is used."""
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize - self.reserve_bytes

    def is_gone(self) -> bool:
        """Whether the file was deleted or replaced while it is open."""
        try:
            return not os.path.samestat(os.fstat(self._raw.fileno()), self.path.stat())
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # a disk that fails says nothing about the file, and the next use of it raises this again
            return False

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Account]:
        """All or nothing, and on the disk when it ends. Gives the account, and stores what was changed in it."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            account = self.account()
            yield account
            self._set_account(account)
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:  # a full disk has already rolled back
                self.connection.execute("ROLLBACK")
            raise

    def account(self) -> Account:
        """The account as it is now: another process may have purged the log."""
        return read_account(self.connection)

    def _set_account(self, account: Account) -> None:
        document = json.dumps(account.to_document(), separators=(",", ":")).encode()
        self.connection.execute("REPLACE INTO account VALUES (1, ?, ?)", (zlib.crc32(document), document))

    def insert(self, account: Account, row: Row) -> None:
        """Store an event."""
        self.connection.execute("INSERT INTO events VALUES (?, ?, ?, ?)", row)
        account.next_seq = max(account.next_seq, row.seq + 1)
        account.depth += 1
        account.bytes += row.bytes

    def crc_of(self, seq: int) -> int | None:
        """The checksum of a stored event; None: there is none at this place."""
        found = self.connection.execute("SELECT crc FROM events WHERE seq = ?", (seq,)).fetchone()
        return None if found is None else int(found[0])

    def read(self, after: int, limit: int) -> list[Row]:
        """The next events in order."""
        query = "SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
        rows = [Row(*row) for row in self.connection.execute(query, (after, limit))]
        for row in rows:
            if not row.whole:
                raise DamagedError(f"the checksum of event {row.seq} is wrong")
        return rows

    def delete(self, account: Account, seqs: Iterable[int]) -> None:
        """Delete those of the events that are there."""
        # Neighbours in one statement: a backlog is acknowledged in order.
        for _, run in itertools.groupby(enumerate(sorted(seqs)), lambda place: place[1] - place[0]):
            neighbours = [seq for _, seq in run]
            self._delete_range(account, neighbours[0], neighbours[-1])

    def delete_oldest(self, account: Account, least_bytes: int) -> int:
        """Delete the oldest events until `least_bytes` are free; returns how many."""
        last, freed = 0, 0
        for last, size in self.connection.execute("SELECT seq, length(payload) FROM events ORDER BY seq"):  # noqa: B007
            freed += _size(size) + ROW_BYTES
            if freed >= least_bytes:
                break
        return self._delete_range(account, 0, last)

    def _delete_range(self, account: Account, first: int, last: int) -> int:
        found = self.connection.execute(
            "DELETE FROM events WHERE seq BETWEEN ? AND ? RETURNING length(payload)", (first, last)
        )
        sizes = [_size(size) + ROW_BYTES for (size,) in found]
        account.depth -= len(sizes)
        account.bytes -= sum(sizes)
        return len(sizes)

    def refuse(self, seq: int, reason: str) -> None:
        """Remember why the broker refused an event."""
        self.connection.execute("UPDATE events SET refused = ? WHERE seq = ?", (reason, seq))

    def used_bytes(self) -> int:
        """Bytes of the file that are in use."""
        (pages,) = self.connection.execute("PRAGMA page_count").fetchone()
        (free,) = self.connection.execute("PRAGMA freelist_count").fetchone()
        return int(pages - free) * PAGE_BYTES


def connect(path: Path) -> sqlite3.Connection:
    """Open a file in any condition; damage raises an error at the first statement."""
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    connection.text_factory = lambda raw: raw.decode(errors="replace")  # damage must not look like another error
    return connection


def format_version(connection: sqlite3.Connection) -> int:
    """The version of the format in which an open file was written."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def read_account(connection: sqlite3.Connection) -> Account:
    """The account of an open file."""
    row = connection.execute("SELECT crc, document FROM account WHERE one = 1").fetchone()
    if row is None:
        raise DamagedError("its account is missing")
    crc, document = row
    if not isinstance(document, bytes) or zlib.crc32(document) != crc:
        raise DamagedError("its account is wrong")
    return Account.of_document(json.loads(document))


def _size(found: object) -> int:
    """A payload's size as the file states it; a damaged row may hold any value there."""
    if not isinstance(found, int):
        raise DamagedError("an event has no payload")
    return found
