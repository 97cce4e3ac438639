"""Why the broker ends connections within seconds: another client with our id, or a message that it does not allow.

MQTT 3.1.1 gives no reasons. With MQTT 5 the reason can be lost, because a broker may reset the TCP connection.
"""

from __future__ import annotations

from edge.delivery.reasons import TAKEN_OVER
from edge.delivery.reports import Ended

SUSPECT_AFTER = 3  # short connections in a row


class ShortLives:
    """Counts the connections in a row that ended before they were steady, for no other known reason."""

    def __init__(self) -> None:
        self.over()

    def over(self) -> None:
        """A connection is steady."""
        self._count = 0
        self._topic, self._with_topic = "", 0  # the only one that was under way each time, and how often in a row
        self._taken_over = False

    @property
    def suspicious(self) -> bool:
        """Whether somebody has to look into it; until then each next connection counts as no success."""
        return self._taken_over or self._count >= SUSPECT_AFTER

    def ended(self, end: Ended, *, unexplained: bool, alone: str) -> None:
        """Count the end of a connection.

        Args:
            unexplained: it was short, and nothing was refused on it.
            alone: the topic of the only message under way, "" if there were none or several.
        """
        if end.code == TAKEN_OVER:
            self._taken_over = True
        elif end.by_broker and not end.code and unexplained:
            self._count += 1
            self._with_topic = self._with_topic + 1 if alone and alone == self._topic else 1
            self._topic = alone

    def suspected_topic(self) -> str:
        """The topic that every one of these connections ended on, "" if there is none; forgets them."""
        if self._taken_over or not self._topic or self._with_topic < SUSPECT_AFTER:
            return ""
        topic = self._topic
        self.over()
        return topic

    def sentence(self, client_id: str, address: str) -> str:
        """What is suspected otherwise, and what to do."""
        verb = "uses" if self._taken_over else "seems to use"
        return (
            f"Another client {verb} the id {client_id} at the broker {address}; give each box a device.name of its own."
        )
