"""The fallback log: events that wait on disk, oldest first, bounded in bytes, each drop counted."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from edge.delivery import salvage
from edge.delivery.log_file import (
    READ_ERRORS,
    ROW_BYTES,
    Account,
    LogFile,
    NewerError,
    OwnerLock,
    Row,
    connect,
    is_damage,
    read_account,
)
from edge.delivery.salvage import Salvage
from edge.errors import StateError

logger = logging.getLogger("edge.delivery")

COMMIT_BYTES = 128 * 1024  # the most that one commit may add: half the write-ahead log of the smallest log
LAST_SAVES_S = 1.0  # of the five seconds that a stop may take
STEPS_AT_ONCE = 10  # of a salvage, before anything else is done: a small log is whole again at once
DROP_SHARE = 100  # a full log drops at least 1/100 at once, so that not every commit has to delete

Result = TypeVar("Result")


class Entry(NamedTuple):
    """One stored event: its place in the log and its JSON."""

    seq: int
    payload: bytes
    refused: str = ""  # why the broker refused it when it was last tried


@dataclass(slots=True)
class Changes:
    """What one commit does, all of it or nothing."""

    add: Sequence[tuple[bytes, str]] = ()  # JSON and why it was refused, oldest first; COMMIT_BYTES at most
    delete: Iterable[int] = ()  # delivered: their seq
    refused: Mapping[int, str] = field(default_factory=dict)  # seq → the broker's reason
    dropped: int = 0  # events that were lost before they came here, to be remembered
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
        self._file: LogFile | None = None
        self._lock: OwnerLock | None = None
        self._known = Account()
        self._salvage: Salvage | None = None
        self._accounts: dict[str, Account] = {}  # as last known, of the files that were set aside, by their names
        #: Whether a damaged file was set aside, and how often, since this object exists.
        self.times_damaged = 0

    @property
    def depth(self) -> int:
        """How many events wait, as of the last call; those of an older file that are still to be saved included."""
        return self._known.depth + (self._salvage.remaining if self._salvage else 0)

    @property
    def salvaging(self) -> bool:
        """Whether events of a damaged or deleted file are still to be brought into this one."""
        return self._salvage is not None

    @property
    def newest(self) -> int:
        """The seq of the newest event that was ever stored, as of the last call."""
        return self._known.next_seq - 1

    @property
    def bytes(self) -> int:
        """How many bytes of the disk the waiting events take."""
        return self._known.bytes

    @property
    def offsets(self) -> Mapping[str, float]:
        """Wall − uptime in seconds of each boot whose clock was synchronised while its events were here."""
        return self._known.offsets

    @property
    def dropped(self) -> int:
        """How many events were dropped in this log's life, across restarts."""
        return self._known.dropped

    def open(self) -> None:
        """Open or create the file; a damaged one is set aside."""
        self._attempt(lambda file: None)

    def close(self) -> None:
        """Close the file; it opens again when it is used again."""
        if self._salvage is not None:
            if self._salvage.progress.source == salvage.DELETED:
                self._save_before_the_end()
            self._salvage.close()
            self._salvage = None
        gone = self._file is not None and self._known.depth > 0 and self._file.is_gone()
        self._close_file()
        if gone:
            self._count_as_dropped(self._known)
        self._release()

    def _count_as_dropped(self, known: Account) -> None:
        """The deleted file took its events with it; the space that it left has room for the count."""
        logger.error("%d events are lost: the fallback log %s was deleted.", known.depth, self.path)
        with (
            contextlib.suppress(OSError, *READ_ERRORS),
            contextlib.closing(LogFile(self.path, self._max_bytes)) as file,
            file.transaction(),
        ):
            file.set_account(Account(next_seq=known.next_seq, dropped=known.dropped + known.depth))

    def _save_before_the_end(self) -> None:
        """A file without a name ends with this process; what is not saved by then counts as dropped."""
        until = time.monotonic() + LAST_SAVES_S
        with contextlib.suppress(StateError):
            while time.monotonic() < until and self.salvage():
                pass

    def commit(self, changes: Changes) -> list[int]:
        """Do all changes in one transaction and return once they are on the disk (fsync).

        Returns:
            The seq of each added event, in the order given.
        """
        return self._attempt(lambda file: self._commit(file, changes))

    def read(self, after: int, limit: int) -> list[Entry]:
        """The next events in order.

        Args:
            after: the seq of the last event already seen, 0 for the beginning.
            limit: at most so many.
        """
        return self._attempt(
            lambda file: [Entry(row.seq, row.payload, row.refused or "") for row in file.read(after, limit)]
        )

    def salvage(self) -> bool:
        """Bring the next events of a damaged or deleted file into this one.

        Returns:
            False: there is nothing to do, or no room for them; they are safe where they are.
        """
        return self._attempt(self._salvage_step)

    def _salvage_step(self, file: LogFile) -> bool:
        if self._salvage is None:
            return False
        if not self._has_room(file):
            self._salvage.wait_for_room(self.path)
            return False
        rows, progress = self._salvage.read()
        self._known = salvage.store(file, rows, progress)
        self._salvage.progress = progress
        if progress.ended:
            self._salvage.put_away(self.path)
            self._salvage = salvage.begin(self.path, file, self._accounts)
        return True

    def _has_room(self, file: LogFile) -> bool:
        """Whether new events still find room after the next step; an all but empty log may take some of the reserve."""
        spare = file.spare_bytes()
        if self._known.bytes <= salvage.STEP_BYTES:
            return spare + file.reserve_bytes // 2 > 0
        return spare > file.reserve_bytes and file.used_bytes() + salvage.STEP_BYTES <= file.limit_bytes

    def _attempt(self, work: Callable[[LogFile], Result]) -> Result:
        """Do `work` on the open file, and once more on a new one when the file turns out to be damaged."""
        try:
            try:
                return work(self._opened())
            except READ_ERRORS as error:
                if not is_damage(error):
                    raise
                self._replace_damaged(error)
                return work(self._opened())
        except (OSError, *READ_ERRORS) as error:
            self._close_file_with_a_name()
            raise StateError(
                f"The fallback log {self.path} cannot be used ({error}); make room there, or let this user write there."
            ) from error

    def _opened(self) -> LogFile:
        if self._file is not None and self._file.is_gone():
            self._replace_deleted(self._file)
        if self._file is None:
            self._own()
            salvage.finish_set_aside(self.path)
            self._file = LogFile(self.path, self._max_bytes)
            if self._salvage is None:
                self._salvage = salvage.begin(self.path, self._file, self._accounts)
                self._salvage_at_once(self._file)
            else:  # the new file was damaged too, and the salvage into it goes on into the next
                with self._file.transaction():
                    account = self._file.account()
                    account.next_seq = max(account.next_seq, self._known.next_seq)
                    self._file.set_account(account)
                    self._file.set_salvage(asdict(self._salvage.progress))
        self._known = self._file.account()
        return self._file

    def _replace_deleted(self, gone: LogFile) -> None:
        """Make a new file for one that was deleted while it is open.

        SQLite would go on writing to a file without a name. Its events are readable through it as long as it is open,
        so it stays open, and this is tried again, while the disk has no room for a new one.
        """
        self._release()
        self._own()
        old = Salvage.of_deleted(gone, self._known)
        file = LogFile(self.path, self._max_bytes)
        try:
            with file.transaction():
                file.set_account(replace(self._known, depth=0, bytes=0))
                file.set_salvage(asdict(old.progress))
        except BaseException:
            file.close()
            raise
        logger.warning("The fallback log %s was deleted; its events move to a new one.", self.path)
        self._file, self._salvage = file, old
        self._salvage_at_once(file)

    def _salvage_at_once(self, file: LogFile) -> None:
        for _ in range(STEPS_AT_ONCE):
            if not self._salvage_step(file):
                break

    def _replace_damaged(self, damage: Exception) -> None:
        self._close_file()
        if isinstance(damage, NewerError):
            logger.warning(
                "The fallback log %s cannot be read: %s. It is kept as %s.newer-…; its events wait for that version.",
                *(self.path, damage, self.path.name),
            )
            self._set_newer_aside()
        else:
            logger.warning(
                "The fallback log %s is damaged (%s); it is set aside as %s.corrupt-…, and what is readable is kept.",
                *(self.path, damage, self.path.name),
            )
            self._accounts[salvage.set_aside(self.path).name] = self._known
        self.times_damaged += 1

    def _set_newer_aside(self) -> None:
        """Continue the newer file's event numbers, drop count and clock offsets, if it has them."""
        known = Account()
        with contextlib.suppress(*READ_ERRORS), contextlib.closing(connect(self.path)) as newer:
            known = read_account(newer)
        salvage.set_aside(self.path, f"{self.path.name}.newer-{time.strftime('%Y%m%dT%H%M%S')}")
        with contextlib.closing(LogFile(self.path, self._max_bytes)) as file, file.transaction():
            file.set_account(Account(next_seq=known.next_seq, dropped=known.dropped, offsets=known.offsets))

    def _own(self) -> None:
        if self._lock is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = OwnerLock(self.path)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _close_file_with_a_name(self) -> None:
        """After a fault: the events of a file without a name would be lost with it."""
        if self._file is None or not self._file.is_gone():
            if self._salvage is not None and self._salvage.progress.source != salvage.DELETED:
                self._salvage.close()
                self._salvage = None
            self._close_file()
            self._release()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _commit(self, file: LogFile, changes: Changes) -> list[int]:
        if changes.add:
            file.leave_room()
        with file.transaction():
            account = file.account()  # in the transaction: `fallback purge` may run beside us
            seqs = list(range(account.next_seq, account.next_seq + len(changes.add)))
            account.next_seq += len(changes.add)
            account.dropped += changes.dropped
            account.forget(file.delete(changes.delete))
            for seq, reason in changes.refused.items():
                file.refuse(seq, reason)
            incoming = sum(len(payload) + ROW_BYTES for payload, _ in changes.add)
            excess = file.used_bytes() + incoming - file.limit_bytes
            if excess > 0:
                gone = file.delete_oldest(max(excess, file.limit_bytes // DROP_SHARE))
                account.forget(gone)
                account.dropped += len(gone)
            file.insert(Row.of(seq, *event) for seq, event in zip(seqs, changes.add, strict=True))
            account.depth += len(changes.add)
            account.bytes += incoming
            if changes.offset_s is not None and account.depth:
                account.offsets[changes.boot] = changes.offset_s
            if not account.depth and self._salvage is None:
                account.offsets.clear()  # no event is left whose time they could correct
            file.set_account(account)
        self._known = account
        return seqs
