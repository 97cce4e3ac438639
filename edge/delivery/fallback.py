"""The fallback log: events that wait on disk, oldest first, bounded in bytes, each drop counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from edge.delivery.log_file import READ_ERRORS, ROW_BYTES, Account, LogFile, OwnerLock, Row, is_damage
from edge.delivery.rebuild import Lost, finish_rebuild, rebuild
from edge.errors import StateError

logger = logging.getLogger("edge.delivery")

COMMIT_BYTES = 128 * 1024  # the most that one commit may add: half the write-ahead log of the smallest log
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
    stored is then not stored, and the next call tries again from the beginning. A damaged file is set aside
    as `fallback.db.corrupt-<time>`, whatever can be read of it is kept, and the rest is counted as dropped.

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
        #: Whether a damaged file was set aside, and how often, since this object exists.
        self.times_damaged = 0

    @property
    def depth(self) -> int:
        """How many events wait, as of the last call."""
        return self._known.depth

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
        self._close_file()
        self._release()

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
            self.close()
            raise StateError(
                f"The fallback log {self.path} cannot be used ({error}); make room there, or let this user write there."
            ) from error

    def _opened(self) -> LogFile:
        if self._file is not None and self._file.is_gone():
            # SQLite would go on writing to a file without a name; its events are still readable through it.
            logger.warning("The fallback log %s was deleted; its events move to a new one.", self.path)
            gone, self._file = self._file, None
            self._release()
            self._own()
            self._tell_lost(rebuild(self.path, self._max_bytes, self._known, gone))
        if self._file is None:
            self._own()
            finish_rebuild(self.path)
            self._file = LogFile(self.path, self._max_bytes)
        self._known = self._file.account()
        return self._file

    def _replace_damaged(self, damage: Exception) -> None:
        logger.warning(
            "The fallback log %s is damaged (%s); it is set aside as %s.corrupt-…, and what is readable is kept.",
            *(self.path, damage, self.path.name),
        )
        self._close_file()
        self._tell_lost(rebuild(self.path, self._max_bytes, self._known, None))
        self.times_damaged += 1

    def _tell_lost(self, lost: Lost) -> None:
        what = f"{lost.events} events of the fallback log cannot be read any more and count as dropped"
        if lost.exact and lost.events:
            logger.warning("%s.", what)
        elif lost.events:
            logger.warning("At least %s; its own count cannot be read.", what)
        elif not lost.exact:
            logger.warning("An unknown number of events of the fallback log is lost: its own count cannot be read.")

    def _own(self) -> None:
        if self._lock is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = OwnerLock(self.path)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

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
            file.set_account(account)
        self._known = account
        return seqs
