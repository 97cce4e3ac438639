"""The last stage: an event to the broker's PUBACK where there is a broker, else to the outbox."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from edge.delivery.connection import Acknowledged, Connected, Connection, Ended, Report
from edge.delivery.outbox import Outbox
from edge.events import Event
from edge.settings.schema import MqttSettings

CONNECT_S = 3.0
PUBACK_S = 5.0


class Publisher(Protocol):
    """Takes one event and returns when nobody has to worry about it any more."""

    what: str  # where events go; changes when the broker goes

    def publish(self, event: Event) -> None:
        """Send it."""


class ToOutbox:
    """What the daemon does before anything can go wrong: JSON, and a place in memory."""

    def __init__(self, why: str) -> None:
        self.what = f"to outbox, {why}"
        self._outbox = Outbox()

    def publish(self, event: Event) -> None:
        """Hand over and forget."""
        self._outbox.add(event.to_json().encode("utf-8"), time.monotonic())
        while (pending := self._outbox.next_unsent()) is not None:
            self._outbox.settle(pending)


class ToBroker:
    """QoS 1 on a topic of the benchmark's own, which nobody takes for an event.

    A broker that goes meanwhile is left alone: from then on it is the outbox, and `what` says so.
    """

    def __init__(self, connection: Connection, reports: queue.SimpleQueue[Report], topic: str, where: str) -> None:
        self.what = f"to the PUBACK of {where}"
        self._connection, self._reports, self._topic, self._where = connection, reports, topic, where
        self._instead: ToOutbox | None = None

    def publish(self, event: Event) -> None:
        """Send and wait for the broker's answer, be it a refusal."""
        if self._instead is not None:
            self._instead.publish(event)
            return
        try:
            self._publish(event)
        except (ConnectionError, queue.Empty):
            self._instead = ToOutbox(f"no PUBACK of {self._where}")
            self.what = self._instead.what

    def _publish(self, event: Event) -> None:
        number = self._connection.publish(self._topic, event.to_json().encode("utf-8"), False)
        if number is None:
            raise ConnectionError("the broker has gone")
        while True:
            report = self._reports.get(timeout=PUBACK_S)
            if isinstance(report, Ended):
                raise ConnectionError(report.sentence)
            if isinstance(report, Acknowledged) and report.mid == number:
                return


@contextmanager
def publisher(settings: MqttSettings, device: str) -> Iterator[Publisher]:
    """Connect to the broker that is configured; without an answer in time it is the outbox."""
    reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
    base = f"{settings.base}/{device}/bench"
    connection = Connection(settings, f"{device}-bench", f"{base}/availability", reports.put)
    connection.start()
    try:
        try:
            first = reports.get(timeout=CONNECT_S)
        except queue.Empty:
            first = Ended("The broker did not answer in time.")
        if isinstance(first, Connected):
            yield ToBroker(connection, reports, base, f"{settings.host}:{settings.port}")
        else:
            yield ToOutbox(f"no broker at {settings.host}:{settings.port}")
    finally:
        connection.disconnect()
        if not connection.join(1.0):
            connection.abandon("The benchmark is over.")
            connection.join(1.0)
