"""An MQTT client for commands: each call waits for the broker's answer. doctor, forget, bench and try use it."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from edge.delivery.connection import OPENED_WITHIN_S, Connection
from edge.delivery.reasons import UNSUPPORTED_VERSION
from edge.delivery.reports import Acknowledged, Connected, Ended, Granted, Opened, Report
from edge.errors import BrokerError
from edge.settings.schema import MqttSettings

ANSWER_WITHIN_S = 10.0
_Report = TypeVar("_Report", bound=Report)


class _EndedError(BrokerError):
    def __init__(self, end: Ended) -> None:
        super().__init__(end.sentence)
        self.end = end


class BlockingClient:
    """An open connection, made by `connected`. All methods raise BrokerError when it ends or an answer is late."""

    def __init__(self, settings: MqttSettings, client_id: str, within_s: float) -> None:
        self._address, self._within_s = settings.address, within_s
        self._reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self.version = settings.version
        self.connection = Connection(settings, client_id, "", self._reports.put)

    def accepted(self) -> bool:
        """Wait for the CONNACK; returns False if the broker does not speak this version of MQTT."""
        self.connection.start()
        try:
            self.next(Opened, OPENED_WITHIN_S)
            self.next(Connected)
        except _EndedError as error:
            if error.end.code == UNSUPPORTED_VERSION and self.version == 5:
                return False
            raise
        return True

    def next(self, kind: type[_Report], within_s: float | None = None) -> _Report:
        """The next report of a kind; other reports are skipped."""
        within_s = self._within_s if within_s is None else within_s
        until = time.monotonic() + within_s
        with contextlib.suppress(queue.Empty):
            while (left_s := until - time.monotonic()) > 0:
                report = self._reports.get(timeout=left_s)
                if isinstance(report, kind):
                    return report
                if isinstance(report, Ended):
                    raise _EndedError(report)
        raise BrokerError(
            f"The broker at {self._address} gave no answer in {within_s:.0f} s; check [mqtt] in the config."
        )

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> str:
        """Publish with QoS 1; returns why the broker refused it, "" if it did not."""
        mid = self.connection.publish(topic, payload, retain=retain)
        while True:
            answer = self.next(Acknowledged)  # if nothing was sent, this raises how the connection ended
            if answer.mid == mid:
                return answer.reason

    def subscribe(self, topics: Sequence[str]) -> tuple[str, ...]:
        """Subscribe; returns for each topic why the broker refused it, "" if it did not."""
        self.connection.subscribe(topics)
        return self.next(Granted).reasons


@contextlib.contextmanager
def connected(settings: MqttSettings, client_id: str, within_s: float = ANSWER_WITHIN_S) -> Iterator[BlockingClient]:
    """Connect, and disconnect at the end.

    Args:
        client_id: not the daemon's, because the broker would end the daemon's connection.
        within_s: how long to wait for each answer.

    Raises:
        BrokerError: the broker cannot be reached, refuses us or does not answer.
    """
    client = BlockingClient(settings, client_id, within_s)
    try:
        if not client.accepted():
            client = BlockingClient(settings.model_copy(update={"version": "3.1.1"}), client_id, within_s)
            client.accepted()
        yield client
    finally:
        client.connection.disconnect()
        if not client.connection.join(1.0):
            client.connection.abandon("The broker did not close the connection in time.")
            client.connection.join(1.0)
