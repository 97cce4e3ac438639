"""What the broker refuses: which topics are left alone for a while, and the one line that says so."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge.repeating_fault import RepeatingFault

logger = logging.getLogger("edge.delivery")

HOLD_S = 600.0  # how long nothing is sent to a topic that the broker refused


class Refusals:
    """Lives longer than a connection.

    Mosquitto 2.0.11, which Debian 12 has, also ends the connection at each refusal: send to such a topic again
    and again, and nothing else gets through.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._held: dict[str, float] = {}  # refused topic → until when
        self._fault = RepeatingFault(logger, clock=clock)

    def allow(self, topic: str) -> bool:
        """Whether the broker has not refused this topic lately."""
        if (until := self._held.get(topic)) is None:
            return True
        if self._clock() >= until:
            del self._held[topic]
        return topic not in self._held

    def happened(self, topic: str, path: str, reason: str, *, of_topic: bool) -> None:
        """The broker has refused a message.

        Args:
            path: the topic with all that comes before it, for people.
            of_topic: whatever goes there next will be refused as well.
        """
        if of_topic:
            self._held[topic] = self._clock() + HOLD_S
        self._fault.happened(
            f"The broker refuses {path} ({reason}); check its access list. "
            "What it refuses stays in the log and is tried again later."
        )

    def over(self) -> None:
        """The broker has taken an event."""
        if self._fault.active:
            self._fault.over("The broker takes events again.")
