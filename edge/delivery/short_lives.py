"""Why the broker ends connections within seconds: another client with our id, or a message that it does not allow.

MQTT 3.1.1 gives no reasons. With MQTT 5 the reason can be lost, because a broker may reset the TCP connection.
"""

from __future__ import annotations

from collections import Counter

from edge.delivery.reasons import OWN_NAME, TAKEN_OVER
from edge.delivery.reports import Ended

SUSPECT_AFTER = 3  # short connections in a row
MAX_TOPICS = 100  # that are counted on a connection
JUST_NOW_S = 0.2  # a broker of MQTT 3.1.1 may acknowledge a message that it does not allow, and close then


class ShortLives:
    """Counts the connections in a row that ended before they were steady, for no other known reason."""

    def __init__(self) -> None:
        self.over()

    def over(self) -> None:
        """A connection is steady."""
        self._count = 0
        self._topic, self._with_topic = "", 0  # on which they ended, and how often in a row
        self._taken_over = False
        self._sent: Counter[str] = Counter()
        self._answered, self._answered_at = "", float("-inf")

    @property
    def suspicious(self) -> bool:
        """Whether a person has to look into it; until then a connection counts as working only once it is steady."""
        return self._taken_over or self._count >= SUSPECT_AFTER

    def sent(self, topic: str) -> None:
        """A message is sent."""
        if len(self._sent) < MAX_TOPICS or topic in self._sent:
            self._sent[topic] += 1

    def answered(self, topic: str, now: float) -> None:
        """The broker has answered a message."""
        self._answered, self._answered_at = topic, now

    def ended(self, end: Ended, unanswered: list[str], now: float, *, unexplained: bool) -> None:
        """Count the end of a connection.

        Args:
            unanswered: the topics of the messages that were under way.
            now: seconds of the clock.
            unexplained: it was short, and nothing was refused on it.
        """
        last = unanswered or ([self._answered] if now - self._answered_at <= JUST_NOW_S else [])
        # A topic that is not allowed ends the connection with its first message.
        topic = last[0] if len(last) == 1 and self._sent[last[0]] == 1 else ""
        self._sent.clear()
        self._answered_at = float("-inf")
        if end.code == TAKEN_OVER:
            self._taken_over = True
        elif end.by_broker and not end.code and unexplained:
            self._count += 1
            self._with_topic = self._with_topic + 1 if topic and topic == self._topic else 1
            self._topic = topic

    def suspected_topic(self) -> str:
        """The topic that each of these connections ended on, "" if there is none; then counting starts again."""
        if self._taken_over or not self._topic or self._with_topic < SUSPECT_AFTER:
            return ""
        topic = self._topic
        self.over()
        return topic

    def sentence(self, client_id: str, address: str) -> str:
        """What is suspected otherwise, and what to do."""
        verb = "uses" if self._taken_over else "seems to use"
        return f"Another client {verb} the id {client_id} at the broker {address}; {OWN_NAME}."
