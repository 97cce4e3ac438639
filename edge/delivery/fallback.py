"""The fallback log: events that wait on disk, oldest first, bounded in bytes, each drop counted."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from edge.delivery import salvage
from edge.delivery.account import DELETED, Account, Progress
from edge.delivery.log_file import READ_ERRORS, ROW_BYTES, LogFile, NewerError, Row, is_damage
from edge.delivery.salvage import Salvage
from edge.delivery.set_aside import finish_set_aside, set_aside, waiting_files
from edge.errors import StateError

logger = logging.getLogger("edge.delivery")

COMMIT_BYTES = 128 * 1024  # the most that one commit may add: half the write-ahead log of the smallest log
LAST_SAVES_S = 1.0  # of the five seconds that a stop may take
STEPS_AT_ONCE = 10  # of a salvage, before other work: a small log is complete again at once
DROP_SHARE = 100  # a full log drops at least 1/100 at once, so that not every commit has to delete

Result = TypeVar("Result")


@dataclass(slots=True)
class Changes:
    """What one commit does, all of it or nothing."""

    add: Sequence[tuple[bytes, str]] = ()  # JSON and why it was refused, oldest first; COMMIT_BYTES at most
    delete: Iterable[int] = ()  # delivered: their seq
    refused: Mapping[int, str] = field(default_factory=dict)  # seq → the broker's reason
    dropped: int = 0  # events that were lost before they reached the log; added to its count
    boot: str = ""
    offset_s: float | None = None  # wall − uptime of `boot`, once its clock was synchronised


class FallbackLog:
    """Events on disk that survive a kill and a power cut; used by one thread.

    Every method may raise StateError when the directory is full, read-only or gone; what was being
    stored is then not stored, and the next call tries again from the beginning. A damaged file is set aside, and a
    new one takes its place at once. What can be read of the old one follows with each call of `salvage`, and the rest
    is counted as dropped.

    Args:
        path: the SQLite file.
        max_bytes: the most that the file and its write-ahead log take together.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        #: The log's account as of the last call.
        self.account = Account()
        #: The part of the file's limit that is in use, 0 to 1, as of the last call.
        self.used = 0.0
        self._file: LogFile | None = None
        self._lock: int | None = None  # a descriptor
        self._salvage: Salvage | None = None
        self._set_aside: dict[str, Account] = {}  # file that was set aside → its last known account

    @property
    def salvaging(self) -> bool:
        """Whether events of a damaged or deleted file are still to be brought into this one."""
        return self._salvage is not None

    def open(self) -> None:
        """Open or create the file; a damaged one is set aside."""
        self._attempt(lambda file: None)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._salvage is not None and self._salvage.of_a_deleted_file:
            # A file without a name ends with this process; what is not saved by then counts as dropped.
            until = time.monotonic() + LAST_SAVES_S
            with contextlib.suppress(StateError):
                while time.monotonic() < until and self.salvage():
                    pass
        gone = self._file is not None and self._file.is_gone()
        self._end_salvage()
        self._close_file()
        if gone:  # its events are lost; the space that it used has room for the count of them
            with (
                contextlib.suppress(OSError, *READ_ERRORS),
                contextlib.closing(LogFile(self.path, self._max_bytes)) as file,
            ):
                salvage.continue_account(self.path, file, self.account, self._set_aside)
        self._release()

    def commit(self, changes: Changes) -> list[int]:
        """Do all changes in one transaction and return once they are on the disk (fsync).

        Returns:
            The seq of each added event, in the order given.
        """
        return self._attempt(lambda file: self._commit(file, changes))

    def read(self, after: int, limit: int) -> list[Row]:
        """The next events in order.

        Args:
            after: the seq of the last event already seen, 0 for the beginning.
            limit: the most events that are returned.
        """
        return self._attempt(lambda file: file.read(after, limit))

    def salvage(self) -> bool:
        """Bring the next events of a damaged or deleted file into this one.

        Returns:
            False: there is nothing to do, or no room for them; they stay safe in the old file.
        """
        return self._attempt(self._salvage_step)

    def _salvage_step(self, file: LogFile) -> bool:
        if self._salvage is None:
            return False
        if not self._has_room(file):
            self._salvage.wait_for_room(self.path, self.account.waiting - self.account.depth)
            return False
        if not self._salvage.step(file):
            self._salvage.put_away(self.path)
            self._salvage = salvage.begin(self.path, file, self._set_aside)
        self.account = file.account()
        return True

    def _has_room(self, file: LogFile) -> bool:
        """Whether the next step leaves room for new events; an almost empty log may use part of the reserve."""
        spare = file.spare_bytes()
        if self.account.bytes <= salvage.STEP_BYTES:
            return spare + file.reserve_bytes // 2 > 0
        return spare > file.reserve_bytes and file.used_bytes() + salvage.STEP_BYTES <= file.limit_bytes

    def _attempt(self, work: Callable[[LogFile], Result]) -> Result:
        """Do `work` on the open file, and once more on a new one if the file is damaged."""
        try:
            try:
                return self._work(work)
            except READ_ERRORS as error:
                if not is_damage(error):
                    raise
                self._replace_damaged(error)
                return self._work(work)
        except (OSError, *READ_ERRORS) as error:
            if self._file is None or not self._file.is_gone():  # a file without a name is the only way to its events
                self._close_file()
                self._release()
            raise StateError(
                f"The fallback log {self.path} cannot be used ({error}); make room there, or let this user write there."
            ) from error

    def _work(self, work: Callable[[LogFile], Result]) -> Result:
        file = self._opened()
        self.account = file.account()
        result = work(file)
        self.account = file.account()
        self.used = file.used_bytes() / file.limit_bytes
        return result

    def _opened(self) -> LogFile:
        if self._file is not None and self._file.is_gone():
            self._replace_deleted(self._file)
        if self._file is None:
            self._own()
            finish_set_aside(self.path)
            self._file = LogFile(self.path, self._max_bytes)
            salvage.continue_account(self.path, self._file, self.account, self._set_aside)
            if self._salvage is None:
                self._salvage = salvage.begin(self.path, self._file, self._set_aside)
            self._salvage_at_once(self._file)
        return self._file

    def _replace_deleted(self, gone: LogFile) -> None:
        """Make a new file for one that was deleted while it is open.

        SQLite would go on writing to a file without a name. Its events are readable through it as long as it is open,
        so it stays open, and this is tried again, while the disk has no room for a new one.
        """
        self._release()
        self._own()
        with contextlib.suppress(*READ_ERRORS):
            self.account = gone.account()  # `fallback purge` may have changed it before the deletion
        deleted, unread = Salvage.of_deleted(gone), None
        with contextlib.ExitStack() as on_error:
            file = on_error.enter_context(contextlib.closing(LogFile(self.path, self._max_bytes)))
            with file.transaction() as account:
                account.continue_from(self.account)
                if account.salvage and account.salvage.source not in [path.name for path in waiting_files(self.path)]:
                    unread = account.salvage  # of a file that was deleted too, with or before this one
                    account.dropped += unread.lost
                account.salvage = Progress(DELETED, self.account.depth, self.account.next_seq)
            on_error.pop_all()
        logger.warning("The fallback log %s was deleted; its events move to a new one.", self.path)
        if unread:
            salvage.report_lost(unread)
        self._end_salvage()
        self._file, self._salvage = file, deleted
        self._salvage_at_once(file)

    def _salvage_at_once(self, file: LogFile) -> None:
        self.account = file.account()
        for _ in range(STEPS_AT_ONCE):
            if not self._salvage_step(file):
                break

    def _replace_damaged(self, damage: Exception) -> None:
        self._close_file()
        newer = isinstance(damage, NewerError)
        if newer:
            what = "The fallback log %s cannot be read: %s. It is kept as %s.newer-…; its events wait for that version."
        else:
            what = "The fallback log %s is damaged (%s); it is set aside as %s.corrupt-…, and what is readable is kept."
        logger.warning(what, self.path, damage, self.path.name)
        name = set_aside(self.path, newer=newer).name
        if self.account != Account():
            self._set_aside[name] = self.account

    def _own(self) -> None:
        """Lock this log against a second daemon, and against `fallback replay` while a daemon runs.

        The file stays when the lock is given up: deleting it would let two owners lock two files of one name.
        """
        if self._lock is not None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(f"{self.path}.lock", os.O_RDONLY | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise BlockingIOError(error.errno, "another edge-classifier is using it") from error
        self._lock = lock

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _close_file(self) -> None:
        """Close the file, and the old file that is salvaged into it, unless that one was deleted."""
        if self._salvage is not None and not self._salvage.of_a_deleted_file:
            self._end_salvage()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _end_salvage(self) -> None:
        if self._salvage is not None:
            self._salvage.close()
            self._salvage = None

    def _commit(self, file: LogFile, changes: Changes) -> list[int]:
        if changes.add and file.spare_bytes() < 0:  # deleting delivered events needs some room too
            raise OSError(errno.ENOSPC, f"less than {file.reserve_bytes} bytes are free on this disk")
        with file.transaction() as account:  # reads it again: `fallback purge` may have changed it
            file.delete(account, changes.delete)
            for seq, reason in changes.refused.items():
                file.refuse(seq, reason)
            incoming = sum(len(payload) + ROW_BYTES for payload, _ in changes.add)
            excess = file.used_bytes() + incoming - file.limit_bytes
            if excess > 0:
                account.dropped += file.delete_oldest(account, max(excess, file.limit_bytes // DROP_SHARE))
            account.dropped += changes.dropped
            rows = [Row.of(seq, *event) for seq, event in enumerate(changes.add, account.next_seq)]
            for row in rows:
                file.insert(account, row)
            if changes.offset_s is not None and account.depth:
                account.offsets[changes.boot] = changes.offset_s
            if not account.depth and self._salvage is None:
                account.offsets.clear()  # no event is left whose time they could correct
        return [row.seq for row in rows]
