"""What the daemon publishes of itself: retained states first, then live events, then the backlog on disk.

Look here for the order of messages and for what becomes of an event once the broker has answered. When the link is
connected or given up is link.py's concern.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from edge.delivery.connection import Report
from edge.delivery.link import Link
from edge.delivery.outbox import Outbox, Pending
from edge.delivery.spool import Spool
from edge.repeating_fault import RepeatingFault
from edge.settings.schema import MqttSettings
from edge.status.snapshot import Status

logger = logging.getLogger("edge.delivery")

STATUS_EVERY_S = 10.0
GREETING = ("camera/availability", "prediction", "status", "availability")  # `online` last

Sent = Pending | int | str  # a live event; a replayed one, by its place in the log; a retained topic


class Publisher:
    """Publishes over a link of its own; used by the delivery thread only.

    Args:
        post: called from the network thread with each report, which the delivery thread then gives to `link.take`.
        status_payload: makes the JSON for the `status` topic.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        settings: MqttSettings,
        device: str,
        outbox: Outbox,
        spool: Spool,
        status: Status,
        *,
        post: Callable[[Report], None],
        status_payload: Callable[[], bytes],
        clock: Callable[[], float],
    ) -> None:
        self._address, self._prefix = settings.address, f"{settings.base}/{device}/"
        self._outbox, self._spool, self._status = outbox, spool, status
        self._status_payload, self._clock = status_payload, clock
        self._retained: dict[str, bytes] = {}  # what each retained topic should carry …
        self._unsent: dict[str, None] = {}  # … and which of them have to be sent, in order
        self._status_at = 0.0
        self._fault = RepeatingFault(logger, clock=clock)
        will = self._prefix + "availability"
        self.link: Link[Sent] = Link(settings, f"edge-classifier-{device}", self, will=will, post=post, clock=clock)

    def set_retained(self, topic: str, payload: bytes) -> None:
        """Set what a retained topic carries; the newest payload wins."""
        self._retained[topic] = payload
        self._unsent.pop(topic, None)
        self._unsent[topic] = None

    def publish_status_now(self) -> None:
        """Publish the status at the next `tick`, because something important changed."""
        self._status_at = self._clock()

    @property
    def due(self) -> float:
        """When `tick` has to be called next, in seconds of the clock."""
        return min(self.link.due, self._status_at) if self.link.online else self.link.due

    def tick(self) -> None:
        """Do what is due: connect, give up a connection, publish the status."""
        self.link.tick()
        if self.link.online and (now := self._clock()) >= self._status_at:
            self._status_at = now + STATUS_EVERY_S
            self.set_retained("status", self._status_payload())

    def send(self) -> None:
        """Publish as much as the link takes: states, then live events, then the backlog."""
        for topic in list(self._unsent):
            if not self.link.takes(path := self._prefix + topic):
                continue
            if not self.link.send(topic, path, self._retained[topic], retain=True):
                return
            del self._unsent[topic]
        while self.link.takes(path := self._prefix + "event") and (event := self._outbox.next_unsent()) is not None:
            if not self.link.send(event, path, event.payload):
                return  # the log or the next connection takes it
            event.awaited = True
        while self.replay_wait_s() == 0 and (entry := self._spool.next()) is not None:
            seq, payload = entry
            if not self.link.send(seq, self._prefix + "replay", payload):
                return

    def replay_wait_s(self) -> float | None:
        """Seconds until the next event of the backlog may be sent; None: not before something else happens."""
        return self._spool.wait_s() if self.link.takes_backlog(self._prefix + "replay") else None

    @property
    def idle(self) -> bool:
        """Whether everything is sent and answered that can be."""
        waiting = any(self.link.allows(self._prefix + topic) for topic in self._unsent)
        return not self.link.online or (self.link.idle and not waiting)

    # --- called by the link ---

    def connected(self) -> None:
        """Send every retained topic again, and what the last connection left unanswered."""
        self._outbox.requeue()
        self._spool.rewind()
        self._status.count("broker_connects")
        self._status.gauge(broker="online", broker_error="")
        self._status_at = self._clock() + STATUS_EVERY_S
        self._retained["status"] = self._status_payload()
        self._retained["availability"] = b"online"
        self._unsent = {topic: None for topic in GREETING if topic in self._retained}

    def works(self) -> None:
        """Log the connection, or the end of the fault that there was."""
        sentence = f"Connected to the broker at {self._address}."
        if self._fault.active:
            self._fault.over(sentence)
        else:
            logger.info("%s", sentence)

    def answered(self, sent: Sent, reason: str) -> None:
        """Settle an event that the broker accepted; keep one that it refused in the log, with the reason."""
        match sent:
            case Pending() if not reason:
                self._outbox.settle(sent)
                self._status.count("events_published")
                self._status.observe("delivery", (self._clock() - sent.made) * 1000)
                if sent.seq is not None:  # it was stored meanwhile
                    self._spool.delivered(sent.seq)
            case Pending():
                sent.awaited, sent.refused = False, reason
                self._status.count("events_refused")
                if sent.seq is not None:
                    self._spool.refused(sent.seq, reason)
            case int() if not reason:
                self._status.count("events_replayed")
                self._spool.delivered(sent)
            case int():
                self._status.count("events_refused")
                self._spool.refused(sent, reason)

    def ended(self, sentence: str, unanswered: Sequence[Sent], *, denied: bool) -> None:
        """Take back what was not answered, and report the fault."""
        for sent in unanswered:
            if isinstance(sent, Pending):
                sent.awaited = False
        self._spool.rewind()
        self._status.gauge(broker="offline", broker_error=sentence)
        self._fault.happened(sentence)
