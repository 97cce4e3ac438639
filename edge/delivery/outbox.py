"""Events that nobody has taken responsibility for yet: made, but neither acknowledged nor on disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

MEMORY_BYTES = 8 * 1024 * 1024  # what waits in memory when the disk takes nothing


@dataclass(slots=True)
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
        self._unsent: deque[Pending] = deque()
        self._unsafe: dict[int, Pending] = {}  # id() → event, oldest first: sent or not, but in memory only
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._unsafe)

    def add(self, payload: bytes, now: float) -> int:
        """Take an event.

        Returns:
            How many of the oldest had to be given up for it, because the disk takes nothing.
        """
        event = Pending(payload, now)
        self._unsent.append(event)
        self._unsafe[id(event)] = event
        self._bytes += len(payload)
        dropped = 0
        while self._bytes > self._memory_bytes:
            # One that is under way may still arrive, and must not count as dropped then.
            oldest = next((old for old in self._unsafe.values() if not old.awaited and old is not event), None)
            if oldest is None:
                break
            self.settle(oldest)
            dropped += 1
        return dropped

    def next_unsent(self) -> Pending | None:
        """The oldest event that was never sent and is not stored; it stays unsafe."""
        while self._unsent:
            event = self._unsent.popleft()
            if id(event) in self._unsafe:
                return event
        return None

    def settle(self, event: Pending) -> None:
        """The event is acknowledged or stored."""
        if self._unsafe.pop(id(event), None) is not None:
            self._bytes -= len(event.payload)

    def unsafe(self) -> Iterator[Pending]:
        """Every event that is in memory only, oldest first."""
        return iter(self._unsafe.values())

    def oldest(self) -> float | None:
        """When the oldest of them was made."""
        return next((event.made for event in self._unsafe.values()), None)
