"""Events that are in memory only: made, but neither acknowledged by the broker nor stored on the disk."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MEMORY_BYTES = 8 * 1024 * 1024  # what waits in memory when the disk takes nothing


@dataclass(slots=True, eq=False)
class Pending:
    """An event that is being delivered.

    It leaves the outbox once it is acknowledged or stored. A stored one whose PUBACK is still awaited keeps
    its `seq`, so that the late PUBACK deletes it from the log.
    """

    payload: bytes
    made: float  # monotonic seconds at which it was handed over
    awaited: bool = False  # sent on the open connection, and not answered yet
    refused: str = ""  # why the broker refused it
    seq: int | None = None  # its place in the log once it is stored


class Outbox:
    """Keeps events in the order in which they were made, up to MEMORY_BYTES."""

    def __init__(self) -> None:
        # Sets in the order of making. A plain dict would search its emptied beginning for the oldest each time.
        self._unsafe: OrderedDict[Pending, None] = OrderedDict()  # sent or not, but in memory only
        self._unsent: OrderedDict[Pending, None] = OrderedDict()  # those of them that are to be sent
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._unsafe)

    def add(self, payload: bytes, now: float) -> int:
        """Take an event.

        Returns:
            How many of the oldest events were dropped for it, because the outbox is full.
        """
        event = Pending(payload, now)
        self._unsent[event] = self._unsafe[event] = None
        self._bytes += len(payload)
        dropped = 0
        while self._bytes > MEMORY_BYTES:
            # An event that was sent may still be acknowledged, and must not count as dropped then.
            oldest = next((old for old in self._unsafe if not old.awaited and old is not event), None)
            if oldest is None:
                break
            self.settle(oldest)
            dropped += 1
        return dropped

    def next_unsent(self) -> Pending | None:
        """Remove and return the oldest event that is to be sent; it stays in the outbox until it is settled."""
        return self._unsent.popitem(last=False)[0] if self._unsent else None

    def requeue(self) -> None:
        """The connection has ended: what it left unanswered is to be sent again."""
        for event in self._unsafe:
            event.awaited = False
        self._unsent = OrderedDict((event, None) for event in self._unsafe if not event.refused)

    def again(self, event: Pending) -> None:
        """The broker does not take an event for now: it is to be sent again, before later ones."""
        event.awaited = False
        if event in self._unsafe:
            self._unsent = OrderedDict((old, None) for old in self._unsafe if not old.refused and not old.awaited)

    def settle(self, event: Pending) -> None:
        """Remove an event that is acknowledged or stored."""
        if event in self._unsafe:
            del self._unsafe[event]
            self._unsent.pop(event, None)
            self._bytes -= len(event.payload)

    def oldest_part(self, most_bytes: int) -> list[Pending]:
        """The oldest events that are neither acknowledged nor stored: at least one, if there is one."""
        part: list[Pending] = []
        size = 0
        for event in self._unsafe:
            size += len(event.payload)
            if part and size > most_bytes:
                break
            part.append(event)
        return part

    def oldest(self) -> float | None:
        """When the oldest of them was made, in monotonic seconds; None if there is none."""
        return next((event.made for event in self._unsafe), None)
