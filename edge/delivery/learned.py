"""What a link has learned of its broker: the version that it speaks, its limits, and whether it keeps messages."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge.delivery.limits import LARGEST_PACKET, Limits, packet_bytes
from edge.delivery.reasons import NO_RETAIN, TOO_LARGE, UNSUPPORTED_VERSION
from edge.delivery.reports import Ended
from edge.settings.schema import MqttSettings

logger = logging.getLogger("edge.delivery")

MAX_LOGGED = 100  # topics for which it was logged that a message is too large


class Learned:
    """Used by the thread that owns the link.

    Args:
        settings: the `[mqtt]` section.
        report: called with a sentence when something is learned that a user notices, and with "" when that is over.
    """

    def __init__(self, settings: MqttSettings, report: Callable[[str], None]) -> None:
        self._wanted, self._report = settings, report
        self.settings = settings  # for the next connection: those, or with version 3.1.1
        self.limits = Limits()
        self.keeps_messages = True
        self._largest = LARGEST_PACKET  # that the broker has not closed a connection for
        self._reported = ""
        self._too_large: set[str] = set()

    def accepted(self, limits: Limits) -> None:
        """A CONNACK: the broker may be another one than before."""
        self.limits = limits._replace(retain=limits.retain and self.keeps_messages)
        sentence = " ".join(filter(None, (self._fallback_sentence(), self.limits.sentence())))
        if sentence != self._reported:
            self._reported = sentence
            self._report(sentence and f"The broker at {self.settings.address}: {sentence}")

    def ended(self, end: Ended, alone_bytes: int) -> bool:
        """Learn from the end of a connection.

        Args:
            alone_bytes: the size of the only message that was under way, 0 if there were none or several.

        Returns:
            Whether the next attempt differs, so that it may follow at once.
        """
        # What is learned counts for one connection, because the broker may be updated meanwhile, or be another one.
        falls_back = end.code == UNSUPPORTED_VERSION and self.settings.version == 5
        self.settings = self._wanted.model_copy(update={"version": "3.1.1"}) if falls_back else self._wanted
        goes_without = end.code == NO_RETAIN and self.keeps_messages
        self.keeps_messages = end.code != NO_RETAIN
        shrinks = end.code == TOO_LARGE and 0 < alone_bytes <= self._largest
        if shrinks:
            self._largest = alone_bytes - 1
        elif end.code != TOO_LARGE:
            self._largest = LARGEST_PACKET
        return falls_back or goes_without or shrinks

    def _fallback_sentence(self) -> str:
        if self.settings.version == self._wanted.version:
            return ""
        return (
            "It does not speak MQTT 5, so the box goes on with 3.1.1, which cannot report a refused event"
            + (" or that nobody subscribes" if self._wanted.wait_for_subscriber else "")
            + '; mqtt.version = "3.1.1" spares the attempt.'
        )

    def too_large(self, topic: str, payload: bytes, correlation: bytes = b"") -> str:
        """Why the broker would close the connection for this message, "" if it is small enough."""
        most = min(self._largest, self.limits.packet_bytes)
        if packet_bytes(topic, payload, correlation) <= most:
            return ""
        return f"Packet too large, the broker takes {most} bytes, 0x95"

    def skips(self, topic: str, payload: bytes, correlation: bytes = b"") -> str:
        """The same, and log once for each topic that a message is not sent."""
        reason = self.too_large(topic, payload, correlation)
        if reason and topic not in self._too_large and len(self._too_large) < MAX_LOGGED:
            self._too_large.add(topic)
            sentence = "A message on %s is not sent (%s); raise the broker's limit for the size of a packet."
            logger.warning(sentence, topic, reason)
        return reason
