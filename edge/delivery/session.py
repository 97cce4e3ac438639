"""The conversation on one connection: what was sent, what was acknowledged, and how much may be under way."""

from __future__ import annotations

from dataclasses import dataclass

from edge.delivery.connection import Connection
from edge.delivery.outbox import Pending

WINDOW = 100  # messages under way at once, should the broker allow more
SILENCE_S = 5.0  # a broker that acknowledges nothing for so long is not there any more


@dataclass(frozen=True, slots=True)
class Stored:
    """A replayed event on its way: its place in the log."""

    seq: int


@dataclass(frozen=True, slots=True)
class State:
    """A retained message on its way."""

    topic: str


Sent = Pending | Stored | State


class Session:
    """Begins with the broker's consent and ends with the connection.

    Args:
        receive_maximum: what the broker takes unacknowledged; more would make it end the connection.
        now: monotonic seconds.
        cautious: one message at a time until the first event is answered. A broker that ends the connection at a
            refusal while more is under way resets it, and its reason is lost with everything else unread.
    """

    def __init__(self, link: Connection, receive_maximum: int, now: float, *, cautious: bool = False) -> None:
        self._link = link
        self._full_window = max(1, min(receive_maximum, WINDOW))
        self._window = 1 if cautious else self._full_window
        self._in_flight: dict[int, tuple[Sent, float]] = {}  # message id → what, and when it was sent
        self._heard = now
        #: Whether the broker has acknowledged anything; one that never does is as good as none.
        self.proven = False
        self.refused = False  # whether it has refused anything

    @property
    def room(self) -> bool:
        """Whether one more message may be sent."""
        return len(self._in_flight) < self._window

    @property
    def room_for_replay(self) -> bool:
        """The same for the backlog, which leaves a quarter of the window to live events."""
        return self.proven and len(self._in_flight) < max(1, self._window * 3 // 4)

    @property
    def idle(self) -> bool:
        """Whether everything sent was acknowledged."""
        return not self._in_flight

    def send(self, what: Sent, topic: str, payload: bytes, now: float, *, retain: bool = False) -> bool:
        """Publish with QoS 1; False: the connection has just ended."""
        mid = self._link.publish(topic, payload, retain)
        if mid is None:
            return False
        self._in_flight[mid] = (what, now)
        return True

    def acknowledged(self, mid: int, now: float) -> Sent | None:
        """What this PUBACK answers; None: nothing that we wait for."""
        self._heard = now
        self.proven = True
        what, _ = self._in_flight.pop(mid, (None, 0.0))
        if isinstance(what, Pending | Stored):
            self._window = self._full_window
        return what

    def silent_at(self) -> float | None:
        """When the broker's silence means that nobody is there; None: it owes us nothing."""
        oldest = next((sent for _, sent in self._in_flight.values()), None)
        return None if oldest is None else max(self._heard, oldest) + SILENCE_S

    def unanswered(self) -> list[Sent]:
        """What was sent and never acknowledged, oldest first."""
        return [what for what, _ in self._in_flight.values()]
