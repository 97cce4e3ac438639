"""A connection for a command that asks the broker something and waits for the answer: doctor, forget, bench."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from edge.delivery.connection import Acknowledged, Connected, Connection, Ended, Granted, Report
from edge.errors import BrokerError
from edge.settings.schema import MqttSettings

WITHIN_S = 10.0
_Answer = TypeVar("_Answer", bound=Report)


class Conversation:
    """An open connection; `conversation` makes it. All methods raise BrokerError when it ends or times out."""

    def __init__(self, settings: MqttSettings, client_id: str, within_s: float) -> None:
        self._address, self._within_s = settings.address, within_s
        self._reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self.connection = Connection(settings, client_id, "", self._reports.put)

    def next(self, kind: type[_Answer], within_s: float | None = None) -> _Answer:
        """The next report of a kind; other reports are skipped."""
        within_s = self._within_s if within_s is None else within_s
        until = time.monotonic() + within_s
        with contextlib.suppress(queue.Empty):
            while (left_s := until - time.monotonic()) > 0:
                report = self._reports.get(timeout=left_s)
                if isinstance(report, kind):
                    return report
                if isinstance(report, Ended):
                    raise BrokerError(report.sentence)
        raise BrokerError(
            f"The broker at {self._address} gave no answer in {within_s:.0f} s; check [mqtt] in the config."
        )

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> str:
        """Publish with QoS 1; returns why the broker refused it, "" if it did not."""
        mid = self.connection.publish(topic, payload, retain=retain)
        while True:
            answer = self.next(Acknowledged)  # where nothing was sent, this raises how the connection ended
            if answer.mid == mid:
                return answer.reason

    def subscribe(self, topics: Sequence[str]) -> tuple[str, ...]:
        """Subscribe; returns for each topic why the broker refused it, "" if it did not."""
        self.connection.subscribe(topics)
        return self.next(Granted).reasons


@contextlib.contextmanager
def conversation(settings: MqttSettings, client_id: str, within_s: float = WITHIN_S) -> Iterator[Conversation]:
    """Connect, and disconnect at the end.

    Args:
        client_id: one of the command's own. With the daemon's the broker would end the daemon's connection.
        within_s: how long to wait for each answer.

    Raises:
        BrokerError: the broker cannot be reached, refuses us or does not answer.
    """
    talk = Conversation(settings, client_id, within_s)
    talk.connection.start()
    try:
        talk.next(Connected)
        yield talk
    finally:
        talk.connection.disconnect()
        if not talk.connection.join(1.0):
            talk.connection.abandon("The broker did not close the connection in time.")
            talk.connection.join(1.0)
