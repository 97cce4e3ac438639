"""The last stage: an event to the broker's PUBACK where there is a broker, else to the outbox."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from edge.delivery.blocking_client import BlockingClient, connected
from edge.delivery.outbox import Outbox
from edge.errors import BrokerError
from edge.events import Event
from edge.settings.schema import MqttSettings

WITHIN_S = 5.0  # for the connection, and for each PUBACK


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

    If the broker fails during the run, events go to the outbox from then on, and `what` names that.
    """

    def __init__(self, talk: BlockingClient, topic: str, address: str) -> None:
        self.what = f"to the PUBACK of {address}"
        self._talk, self._topic, self._address = talk, topic, address
        self._instead: ToOutbox | None = None

    def publish(self, event: Event) -> None:
        """Send and wait for the broker's answer; a refusal counts as one."""
        if self._instead is None:
            try:
                self._talk.publish(self._topic, event.to_json().encode("utf-8"))
                return
            except BrokerError:
                self._instead = ToOutbox(f"no PUBACK of {self._address}")
                self.what = self._instead.what
        self._instead.publish(event)


@contextmanager
def publisher(settings: MqttSettings, device: str) -> Iterator[Publisher]:
    """Connect to the configured broker; use the outbox where it does not answer in time."""
    with ExitStack() as stack:
        try:
            talk = stack.enter_context(connected(settings, f"{device}-bench", WITHIN_S))
        except BrokerError:
            talk = None
        if talk is None:
            yield ToOutbox(f"no broker at {settings.address}")
        else:
            yield ToBroker(talk, f"{settings.base}/{device}/bench", settings.address)
