"""Events that nobody has taken responsibility for yet: made, but neither acknowledged nor on disk."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

MEMORY_BYTES = 8 * 1024 * 1024  # what waits in memory when the disk takes nothing


@dataclass(slots=True, eq=False)
class Pending:
    """An event on its way.

    It leaves the outbox once it is acknowledged or stored. A stored one whose PUBACK is still awaited keeps
    its `seq`, so that the late PUBACK deletes it from the log.
    """

    payload: bytes
    made: float  # monotonic seconds at which it was handed over
    awaited: bool = False  # it was sent on the connection that is open now, and not answered yet
    refused: str = ""  # why the broker did not take it
    seq: int | None = None  # its place in the log once it is stored


class Outbox:
    """Keeps the order in which events were made, bounded in bytes; knows nothing of brokers and disks."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._memory_bytes = memory_bytes
        # Sets in the order of making. A plain dict would search its emptied beginning for the oldest each time.
        self._unsafe: OrderedDict[Pending, None] = OrderedDict()  # sent or not, but in memory only
        self._unsent: OrderedDict[Pending, None] = OrderedDict()  # those of them that are to be sent
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._unsafe)

    def add(self, payload: bytes, now: float) -> int:
        """Take an event.

        Returns:
            How many of the oldest had to be given up for it, because the disk takes nothing.
        """
        event = Pending(payload, now)
        self._unsent[event] = self._unsafe[event] = None
        self._bytes += len(payload)
        dropped = 0
        while self._bytes > self._memory_bytes:
            # One that is under way may still arrive, and must not count as dropped then.
            oldest = next((old for old in self._unsafe if not old.awaited and old is not event), None)
            if oldest is None:
                break
            self.settle(oldest)
            dropped += 1
        return dropped

    def next_unsent(self) -> Pending | None:
        """The oldest event that is to be sent; it stays unsafe."""
        return self._unsent.popitem(last=False)[0] if self._unsent else None

    def requeue(self) -> None:
        """A connection begins: send what the last one left unanswered, should the disk not have taken it."""
        self._unsent = OrderedDict((event, None) for event in self._unsafe if not event.awaited and not event.refused)

    def settle(self, event: Pending) -> None:
        """The event is acknowledged or stored."""
        if event in self._unsafe:
            del self._unsafe[event]
            self._unsent.pop(event, None)
            self._bytes -= len(event.payload)

    def unsafe(self) -> Iterator[Pending]:
        """Every event that is in memory only, oldest first."""
        return iter(self._unsafe)

    def oldest(self) -> float | None:
        """When the oldest of them was made."""
        return next((event.made for event in self._unsafe), None)
