"""The last stage of the benchmark: publishes to the broker until its PUBACK; without a broker, to an outbox."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from edge.delivery.blocking_client import BlockingClient, connected
from edge.delivery.outbox import Outbox
from edge.delivery.topics import client_id, topic_prefix
from edge.errors import BrokerError
from edge.events import Event
from edge.settings.schema import MqttSettings

WITHIN_S = 5.0  # for the connection, and for each PUBACK


class Publisher:
    """Publishes with QoS 1 on `topic`, or hands events to an outbox, as the daemon does, if there is no connection.

    If the broker fails during the run, events go to the outbox from then on. `destination` names where they go.
    """

    def __init__(self, client: BlockingClient | None, topic: str, address: str) -> None:
        self.destination = f"to the PUBACK of {address}" if client else f"to outbox, no broker at {address}"
        self._client, self._topic, self._address = client, topic, address
        self._outbox = Outbox()

    def publish(self, event: Event) -> None:
        """Publish and wait for the PUBACK; a refusal counts as one."""
        payload = event.to_json().encode("utf-8")
        if self._client is not None:
            try:
                self._client.publish(self._topic, payload)
                return
            except BrokerError:
                self._client = None
                self.destination = f"to outbox, no PUBACK of {self._address}"
        self._outbox.add(payload, time.monotonic())
        while (pending := self._outbox.next_unsent()) is not None:
            self._outbox.settle(pending)


@contextmanager
def publisher(settings: MqttSettings, device: str) -> Iterator[Publisher]:
    """A publisher that is connected to the configured broker if that answers in time."""
    with ExitStack() as stack:
        try:
            client = stack.enter_context(connected(settings, client_id(settings, device, "-bench"), WITHIN_S))
        except BrokerError:
            client = None
        yield Publisher(client, topic_prefix(settings, device) + "bench", settings.address)
