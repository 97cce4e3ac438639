"""Publishes over the link: retained states first, then live events, then the backlog on disk.

Look here for the order of messages and for what happens to an event when the broker has answered. link.py decides when
to connect and when to give a connection up.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from functools import partial

from edge.delivery.link import Call, Link
from edge.delivery.outbox import Outbox, Pending
from edge.delivery.reasons import Kind
from edge.delivery.reports import Acknowledged
from edge.delivery.spool import Spool
from edge.delivery.topics import STATES, client_id, topic_prefix
from edge.repeating_fault import RepeatingFault
from edge.settings.schema import MqttSettings
from edge.status.snapshot import FAULTS, Status

logger = logging.getLogger("edge.delivery")

STATUS_EVERY_S = 10.0
REPEAT_EVERY_S = 60.0  # so that what others retain on the topics below does not stay
REPEATED = ("availability", "camera/availability")


class Publisher:
    """Owns the link that carries the events; used by the delivery thread only.

    Args:
        post: called from the network thread with a call that the delivery thread has to make.
    """

    def __init__(
        self,
        settings: MqttSettings,
        device: str,
        outbox: Outbox,
        spool: Spool,
        status: Status,
        *,
        post: Callable[[Call], None],
    ) -> None:
        self._address, self._prefix = settings.address, topic_prefix(settings, device)
        self._wait_for_subscriber = settings.wait_for_subscriber
        self._outbox, self._spool, self._status = outbox, spool, status
        self._retained: dict[str, bytes] = {}  # what each retained topic carries …
        self._unsent: dict[str, None] = {}  # … and those that are to be sent, in order
        self._unheard: set[str] = set()  # topics to which nobody subscribes
        self._status_at = self._repeat_at = 0.0
        self._fault = RepeatingFault(logger)
        will = self._prefix + "availability"
        self.link = Link(settings, client_id(settings, device), self, will=will, post=post)

    def set_retained(self, topic: str, payload: bytes) -> None:
        """Set what a retained topic carries; the newest payload wins."""
        self._retained[topic] = payload
        self._unsent.pop(topic, None)
        self._unsent[topic] = None

    def set_camera(self, online: bool) -> None:
        """Publish whether there are frames, and at the next `tick` the status, which says why."""
        self.set_retained("camera/availability", b"online" if online else b"offline")
        self._status_at = time.monotonic()

    @property
    def due(self) -> float:
        """When `tick` has to be called next, in seconds of the clock."""
        return min(self.link.due, self._status_at) if self.link.online else self.link.due

    def tick(self) -> None:
        """Do what is due: connect, give up a connection, publish the status."""
        self.link.tick()
        if self.link.online and time.monotonic() >= self._status_at:
            self._renew_status()

    def _renew_status(self) -> None:
        self._status_at = time.monotonic() + STATUS_EVERY_S
        self.set_retained("status", self._fitting_status())
        if time.monotonic() >= self._repeat_at:
            self._repeat_at = time.monotonic() + REPEAT_EVERY_S
            self._unsent.update(dict.fromkeys(topic for topic in REPEATED if topic in self._retained))

    def _fitting_status(self) -> bytes:
        """The status as JSON; where the broker takes small messages only, without its longest parts."""
        status = self._status.snapshot().to_dict()
        while True:
            payload = json.dumps(status, ensure_ascii=False, separators=(",", ":")).encode()
            if not status or not self.link.too_large(self._prefix + "status", payload):
                return payload
            del status[max(status, key=lambda key: (key not in FAULTS, len(json.dumps(status[key])) + len(key)))]

    def send(self) -> None:
        """Publish as much as the link takes: states, then live events, then the backlog."""
        for topic in list(self._unsent):
            if not self.link.takes(path := self._prefix + topic):
                continue
            del self._unsent[topic]
            if not self.link.send(path, self._retained[topic], partial(self._state_answered, topic), retain=True):
                self._unsent[topic] = None
                return
        while self.link.takes(path := self._prefix + "event") and (event := self._outbox.next_unsent()) is not None:
            event.awaited = True
            if not self.link.send(path, event.payload, partial(self._live_answered, event)):
                event.awaited = False
                return  # the log or the next connection takes it
        while self.replay_wait_s() == 0 and (entry := self._spool.next()) is not None:
            seq, payload = entry
            if not self.link.send(self._prefix + "replay", payload, partial(self._replay_answered, seq)):
                return

    def replay_wait_s(self) -> float | None:
        """Seconds until the next event of the backlog may be sent; None: none may be sent now."""
        return self._spool.wait_s() if self.link.takes_backlog(self._prefix + "replay") else None

    @property
    def idle(self) -> bool:
        """Whether everything is sent and answered that can be."""
        waiting = any(self.link.allows(self._prefix + topic) for topic in self._unsent)
        return not self.link.online or (self.link.idle and not waiting)

    def _state_answered(self, topic: str, answer: Acknowledged) -> None:
        if answer.kind is Kind.LATER:
            self._unsent.setdefault(topic)

    def _live_answered(self, event: Pending, answer: Acknowledged) -> None:
        """Settle an event that the broker accepted; keep one that it refused, with the reason, for the log."""
        if self._later("event", answer):
            self._outbox.again(event)
            if event.seq is not None:  # it was stored meanwhile
                self._spool.again(event.seq)
        elif answer.reason:
            event.awaited, event.refused = False, answer.reason
            if event.seq is not None:
                self._spool.refused(event.seq, answer.reason, for_now=answer.kind is Kind.LATER)
        else:
            self._outbox.settle(event)
            self._spool.broker_takes()
            self._status.count("events_published")
            self._status.observe("delivery", (time.monotonic() - event.made) * 1000)
            if event.seq is not None:
                self._spool.delivered(event.seq)

    def _replay_answered(self, seq: int, answer: Acknowledged) -> None:
        if self._later("replay", answer):
            self._spool.again(seq)
        elif answer.reason:
            self._spool.refused(seq, answer.reason, for_now=answer.kind is Kind.LATER)
        else:
            self._status.count("events_replayed")
            self._spool.delivered(seq)

    def _later(self, topic: str, answer: Acknowledged) -> bool:
        """Count an answer; returns whether the event is to be sent again within seconds."""
        if answer.reason:
            self._status.count("events_refused")
            return answer.kind is Kind.LATER and not self.link.tried_enough(self._prefix + topic)
        unheard = answer.kind is Kind.UNHEARD
        (self._unheard.add if unheard else self._unheard.discard)(self._prefix + topic)
        self._status.gauge(unheard=self._unheard_sentence())
        if unheard and self._wait_for_subscriber:
            self.link.hold(self._prefix + topic, answer)
            return True
        self._status.count("events_unheard", int(unheard))
        return False

    def _unheard_sentence(self) -> str:
        if not self._unheard:
            return ""
        sentence = f"Nobody subscribes to {' or '.join(sorted(self._unheard))}. "
        if self._wait_for_subscriber:
            return sentence + "Events are kept until somebody does (mqtt.wait_for_subscriber)."
        also = f"Home Assistant needs {self._prefix}prediction only"
        return sentence + f"Events are not kept for later (mqtt.wait_for_subscriber); {also}."

    # --- called by the link ---

    def connected(self) -> None:
        """Send every retained topic again."""
        self._spool.rewind()
        self._unheard.clear()
        self._status.count("broker_connects")
        self._status.gauge(broker="online", broker_error="", unheard="")
        self._renew_status()
        self._retained["availability"] = b"online"
        self._unsent = {topic: None for topic in STATES if topic in self._retained}

    def works(self) -> None:
        """Log the connection, or the end of the fault that there was."""
        sentence = f"Connected to the broker at {self._address}."
        if not self._fault.over(sentence):
            logger.info("%s", sentence)

    def ended(self, sentence: str, *, denied: bool) -> None:
        """Send again on the next connection what this one left unanswered, and report the fault."""
        self._outbox.requeue()
        self._status.gauge(broker="offline", broker_error=sentence)
        self._fault.happened(sentence)

    def learned(self, sentence: str) -> None:
        """Log and show what the broker restricts; the requests' link learns the same."""
        self._status.gauge(broker_limits=sentence)
        logger.info("%s", sentence or f"The broker at {self._address} has no such limits any more.")
