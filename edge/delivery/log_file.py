"""The SQLite file of the fallback log: its schema, its checks, and how events are read and written."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

PAGE_BYTES = 1024
WAL_BYTES = 1024 * 1024  # copied back at this size: more would hold up live events, less would fsync more often
ROW_BYTES = 24  # what SQLite adds to an event: seq, checksum, record and cell header
CHECK_UP_TO_BYTES = 8 * 1024 * 1024  # a full check of more than this would hold up the start on an SD card
MAX_OFFSETS = 64
BUSY_S = 1.0  # how long one waits for another process
VERSION = 1  # PRAGMA user_version; logs from before it have 0. It grows when an older program must not touch the file
ACCOUNT, SALVAGE = 1, 2  # the rows of `account`; programs from before the second one do not read it
SCHEMA = (
    "CREATE TABLE events (seq INTEGER PRIMARY KEY, crc INTEGER NOT NULL, refused TEXT, payload BLOB NOT NULL)",
    "CREATE TABLE account (one INTEGER PRIMARY KEY, crc INTEGER NOT NULL, document BLOB NOT NULL)",
)
# What the file format fixes at its beginning, given our page size and WAL. SQLite takes a damaged write
# version for a read-only file, and we would wait for ever for somebody to mend the permissions.
HEADER = b"SQLite format 3\0\x04\x00\x02\x02\x00\x40\x20\x20"


class DamagedError(Exception):
    """The file is not what we wrote."""


class NewerError(DamagedError):
    """The file was written by a newer version of the program, in a form that this one does not know."""


#: What work on a damaged file may raise. SQLite quotes the file in its messages, which sqlite3 decodes strictly.
READ_ERRORS = (sqlite3.Error, DamagedError, UnicodeDecodeError)


class Row(NamedTuple):
    """One event with the checksum that was stored beside it."""

    seq: int
    crc: int
    refused: str | None
    payload: bytes

    @classmethod
    def of(cls, seq: int, payload: bytes, refused: str) -> Row:
        """A row for an event that is stored now."""
        return cls(seq, zlib.crc32(payload), refused or None, payload)

    @property
    def whole(self) -> bool:
        """Whether it is what was stored; SQLite does not notice a changed byte inside a value."""
        right = isinstance(self.seq, int) and isinstance(self.refused, str | None) and isinstance(self.payload, bytes)
        return right and zlib.crc32(self.payload) == self.crc

    @property
    def bytes(self) -> int:
        """What it takes of the log's bytes."""
        return len(self.payload) + ROW_BYTES


@dataclass(slots=True)
class Account:
    """What the log remembers besides the events; written in the same transactions."""

    next_seq: int = 1  # never used twice, or the late PUBACK of a purged event could delete another one
    depth: int = 0  # events stored
    bytes: int = 0  # their payloads and ROW_BYTES each
    dropped: int = 0  # events lost in this log's life, because it was full or damaged
    offsets: dict[str, float] = field(default_factory=dict)  # boot → wall − uptime in seconds
    unknown: dict[str, Any] = field(default_factory=dict)  # what a newer version stored; written back as it is

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> Account:
        """The account that a log's JSON document holds, whichever version wrote it."""
        known = {key: document[key] for key in KNOWN_KEYS & document.keys()}
        return cls(**known, unknown={key: value for key, value in document.items() if key not in known})

    def to_document(self) -> dict[str, Any]:
        """JSON types."""
        return {key: getattr(self, key) for key in KNOWN_KEYS} | self.unknown

    def forget(self, sizes: list[int]) -> None:
        """Count out events that are deleted, given by their payloads' sizes."""
        self.depth -= len(sizes)
        self.bytes -= sum(sizes) + ROW_BYTES * len(sizes)


KNOWN_KEYS = {known.name for known in fields(Account)} - {"unknown"}


def is_damage(error: Exception) -> bool:
    """Whether an error is about the file's content rather than about the disk or the permissions."""
    if isinstance(error, sqlite3.OperationalError):
        return str(error).startswith(("no such ", "unsupported file format", "malformed"))
    return isinstance(error, sqlite3.DatabaseError | DamagedError | UnicodeDecodeError)


class OwnerLock:
    """Keeps a second daemon, and `fallback replay` beside a daemon, away from one log.

    The file stays when the lock is given up: deleting it would let two owners lock two files of one name.
    """

    def __init__(self, log: Path) -> None:
        self._descriptor = os.open(log.with_name(log.name + ".lock"), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise BlockingIOError(error.errno, "another edge-classifier is using it") from error

    def release(self) -> None:
        """Let others in."""
        os.close(self._descriptor)


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
        self.limit_bytes = max_bytes - 2 * wal_bytes
        self.reserve_bytes = 2 * wal_bytes
        with path.open("ab+") as file:  # made here, so that a missing right is an OSError that says so
            file.seek(0)
            header = file.read(len(HEADER))
        if header not in (b"", HEADER):
            raise DamagedError("it does not begin as an SQLite file of ours")
        self.connection = connect(path)
        try:
            self._set_up(wal_bytes)
            self._check()
            status = path.stat()
        except BaseException:
            self.close()
            raise
        self._identity = (status.st_dev, status.st_ino)

    def _set_up(self, wal_bytes: int) -> None:
        # What an SD card bears, measured in bytes written per byte of 420-byte events, one commit of 3 / of 60
        # events: write-ahead log with pages of 1 KiB 8.8 / 2.9, with 4 KiB 13.1 / 3.0; a rollback journal writes
        # 2 to 3 times that. synchronous=FULL fsyncs the write-ahead log at each commit, which is the promise
        # (NORMAL would lose the last commits in a power cut, OFF the whole file). auto_vacuum stays off: freed
        # pages are used again, and the bound holds without moving pages about.
        execute = self.connection.execute
        execute(f"PRAGMA page_size={PAGE_BYTES}")
        self._use_write_ahead_log()
        execute("PRAGMA synchronous=FULL")
        execute(f"PRAGMA wal_autocheckpoint={wal_bytes // PAGE_BYTES}")
        execute(f"PRAGMA journal_size_limit={wal_bytes}")
        if self._is_empty():
            with self.transaction():
                if self._is_empty():  # `fallback show` may come while a daemon makes the file, and the other way round
                    for statement in SCHEMA:
                        execute(statement)
                    execute(f"PRAGMA user_version={VERSION}")
                    self.set_account(Account())

    def _use_write_ahead_log(self) -> None:
        """SQLite itself waits for no other that does this to a new file at the same moment."""
        until = time.monotonic() + BUSY_S
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() >= until:
                    raise
                time.sleep(0.01)

    def _is_empty(self) -> bool:
        (tables,) = self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return not tables

    def _check(self) -> None:
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise NewerError(f"a newer version of the program wrote it, in format {version}")
        if tuple(sql for (sql,) in self.connection.execute("SELECT sql FROM sqlite_master ORDER BY rowid")) != SCHEMA:
            raise DamagedError("its tables are not ours")
        self.account()
        if self.path.stat().st_size <= CHECK_UP_TO_BYTES:
            (verdict,) = self.connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise DamagedError(str(verdict).replace("\n", " "))

    def close(self) -> None:
        """Close the file; the last one to do so copies the write-ahead log back."""
        self.connection.close()

    def leave_room(self) -> None:
        """Raise OSError when the disk is all but full: deleting what was delivered takes some room, too."""
        if self.spare_bytes() < 0:
            raise OSError(errno.ENOSPC, f"less than {self.reserve_bytes} bytes are free on this disk")

    def spare_bytes(self) -> int:
        """What is free on the disk, less what is kept free; below zero where that is in use."""
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize - self.reserve_bytes

    def is_gone(self) -> bool:
        """Whether somebody deleted or replaced the file while it is open."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return True
        return (status.st_dev, status.st_ino) != self._identity

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and on the disk when it ends."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:  # a full disk has already rolled back
                self.connection.execute("ROLLBACK")
            raise

    def account(self) -> Account:
        """What the log remembers, as of now: another process may have purged it."""
        return read_account(self.connection)

    def salvage(self) -> dict[str, Any] | None:
        """How far the salvage of an older file has come; None: there is none."""
        return read_document(self.connection, SALVAGE)

    def set_account(self, account: Account) -> None:
        """Remember this instead."""
        while len(account.offsets) > MAX_OFFSETS:
            account.offsets.pop(next(iter(account.offsets)))
        self._set_document(ACCOUNT, account.to_document())

    def set_salvage(self, progress: dict[str, Any] | None) -> None:
        """Remember how far the salvage of an older file has come."""
        self.connection.execute("DELETE FROM account WHERE one = ?", (SALVAGE,))
        if progress is not None:
            self._set_document(SALVAGE, progress)

    def _set_document(self, place: int, content: dict[str, Any]) -> None:
        document = json.dumps(content, separators=(",", ":")).encode()
        self.connection.execute("REPLACE INTO account VALUES (?, ?, ?)", (place, zlib.crc32(document), document))

    def insert(self, rows: Iterable[Row]) -> None:
        """Store events; one whose seq is there already is skipped."""
        self.connection.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?)", rows)

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

    def delete(self, seqs: Iterable[int]) -> list[int]:
        """Delete events; returns the payload sizes of those that were there."""
        sizes: list[int] = []
        # Neighbours in one statement: a backlog is acknowledged in order.
        for _, run in itertools.groupby(enumerate(sorted(seqs)), lambda place: place[1] - place[0]):
            neighbours = [seq for _, seq in run]
            found = self.connection.execute(
                "DELETE FROM events WHERE seq BETWEEN ? AND ? RETURNING length(payload)",
                (neighbours[0], neighbours[-1]),
            )
            sizes += [_size(size) for (size,) in found]
        return sizes

    def delete_oldest(self, least_bytes: int) -> list[int]:
        """Delete the oldest events until `least_bytes` are free; returns their payload sizes."""
        sizes: list[int] = []
        last, freed = 0, 0
        for last, size in self.connection.execute("SELECT seq, length(payload) FROM events ORDER BY seq"):  # noqa: B007
            sizes.append(_size(size))
            freed += sizes[-1] + ROW_BYTES
            if freed >= least_bytes:
                break
        self.connection.execute("DELETE FROM events WHERE seq <= ?", (last,))
        return sizes

    def refuse(self, seq: int, reason: str) -> None:
        """Remember why the broker refused an event."""
        self.connection.execute("UPDATE events SET refused = ? WHERE seq = ?", (reason, seq))

    def used_bytes(self) -> int:
        """Bytes of the file that hold something."""
        (pages,) = self.connection.execute("PRAGMA page_count").fetchone()
        (free,) = self.connection.execute("PRAGMA freelist_count").fetchone()
        return int(pages - free) * PAGE_BYTES


def connect(path: Path) -> sqlite3.Connection:
    """Open a file whatever its state; the first statement tells."""
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    connection.text_factory = lambda raw: raw.decode(errors="replace")  # damage must not look like another error
    return connection


def read_account(connection: sqlite3.Connection) -> Account:
    """The account of an open file."""
    document = read_document(connection, ACCOUNT)
    if document is None:
        raise DamagedError("its account is missing")
    return Account.of_document(document)


def read_document(connection: sqlite3.Connection, place: int) -> dict[str, Any] | None:
    """One row of `account`, None where there is none."""
    row = connection.execute("SELECT crc, document FROM account WHERE one = ?", (place,)).fetchone()
    if row is None:
        return None
    if not isinstance(row[1], bytes) or zlib.crc32(row[1]) != row[0]:
        raise DamagedError("its account is wrong")
    content: dict[str, Any] = json.loads(row[1])
    return content


def _size(found: object) -> int:
    """A payload's size as the file has it; of a damaged row it may be anything."""
    if not isinstance(found, int):
        raise DamagedError("an event has no payload")
    return found
