"""What the fallback log's file holds besides events: counts, clock offsets, and the progress of a salvage."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

MAX_OFFSETS = 64
DELETED = ""  # the source of events that are read from a file without a name


@dataclass(slots=True)
class Progress:
    """How far the salvage of a damaged or deleted file has come."""

    source: str  # the file's name, or DELETED
    expected: int | None  # events that the old file's account counts; None: it cannot be read
    end: int  # no event has this seq or a higher one
    saved: int = 0
    first: int = 0  # seq of the oldest event that was saved
    last: int = 0  # and of the newest
    after: int = 0  # every seq up to this one has been tried
    misses: int = 0  # attempts that found nothing since the last event
    ended: bool = False  # nothing is left to read; the old file has to be renamed

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


@dataclass(slots=True)
class Account:
    """The counts and the clock offsets of a log; written in the same transactions as its events."""

    next_seq: int = 1  # never used twice, or the late PUBACK of a purged event could delete another one
    depth: int = 0  # events stored
    bytes: int = 0  # what they take, see Row.bytes
    dropped: int = 0  # events lost in this log's life, because it was full, damaged or deleted
    offsets: dict[str, float] = field(default_factory=dict)  # boot → wall − uptime in seconds
    salvage: Progress | None = None
    unknown: dict[str, Any] = field(default_factory=dict)  # what a newer version stored; written back as it is

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> Account:
        """The account that a log's JSON document holds; any version may have written it."""
        account = cls(**_known(cls, document))
        account.unknown = {key: value for key, value in document.items() if key not in _known(cls, document)}
        if "salvage" in document:
            account.salvage = Progress(**_known(Progress, document["salvage"]))
        return account

    def to_document(self) -> dict[str, Any]:
        """JSON types."""
        while len(self.offsets) > MAX_OFFSETS:
            self.offsets.pop(next(iter(self.offsets)))
        document = asdict(self)
        document |= document.pop("unknown")
        if self.salvage is None:
            del document["salvage"]
        return document

    @property
    def waiting(self) -> int:
        """How many events are stored here or still to be salvaged."""
        return self.depth + (self.salvage.remaining if self.salvage else 0)

    def continue_from(self, old: Account) -> None:
        """Take over the numbering, the drops and the clock offsets of the log that this one replaces."""
        self.next_seq = max(self.next_seq, old.next_seq)
        self.dropped = max(self.dropped, old.dropped)
        self.offsets = old.offsets | self.offsets
        if self.salvage is None and old.salvage is not None and not old.salvage.ended:
            self.salvage = old.salvage
        self.unknown = old.unknown | self.unknown


def _known(kind: type[Account | Progress], document: dict[str, Any]) -> dict[str, Any]:
    return {each.name: document[each.name] for each in fields(kind) if each.name in document}
