"""Everything between us and the broker: connecting again and again, what it has to know, what it answers."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge.backoff import Backoff
from edge.delivery.connection import Acknowledged, Connected, Connection, Ended, Report, place
from edge.delivery.outbox import Outbox, Pending
from edge.delivery.refusals import Refusals
from edge.delivery.session import Sent, Session, State, Stored
from edge.delivery.spool import Spool
from edge.repeating_fault import RepeatingFault
from edge.settings.schema import MqttSettings
from edge.status.snapshot import Status

logger = logging.getLogger("edge.delivery")

STATUS_EVERY_S = 10.0
ANSWER_S = 6.0  # from a connection's start to the CONNACK; a TCP and a TLS timeout fit in
SHORT_LIVED_S = 10.0
RETRY_FIRST_S, RETRY_CAP_S = 0.5, 4.0  # live events flow again within 5 s of the broker's return
DENIED_CAP_S = 60.0  # a wrong password or a client id used twice is not mended within seconds
STOLEN_AFTER = 3  # so many short lives in a row
GREETING = ("camera/availability", "prediction", "status", "availability")  # `online` last


class Broker:
    """Holds at most one connection; used by the delivery thread only.

    Args:
        device: the name under which the broker knows us.
        report: what a connection's reports are put on, with the connection's number.
        status_payload: the JSON for the `status` topic.
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
        report: Callable[[int, Report], None],
        status_payload: Callable[[], bytes],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._client_id = f"edge-classifier-{device}"
        self._prefix = f"{settings.base}/{device}/"
        self._outbox = outbox
        self._spool = spool
        self._status = status
        self._report = report
        self._status_payload = status_payload
        self._clock = clock
        self._states: dict[str, bytes] = {}  # retained topics: what each should carry …
        self._unsaid: dict[str, None] = {}  # … and which of them the broker does not know yet, in order
        self._link: Connection | None = None
        self._number = 0
        self._started = 0.0  # when the link was
        self._session: Session | None = None
        self._connect_at = clock()
        self._status_at = 0.0
        self._backoff = Backoff(RETRY_FIRST_S, RETRY_CAP_S)
        self._short_lives = 0
        self._cautious = False  # the last connection ended with events unanswered
        self._suspect = False  # the last connection was taken over, or looked so
        self._fault = RepeatingFault(logger, clock=clock)
        self._refusals = Refusals(clock)

    @property
    def online(self) -> bool:
        """Whether the broker has accepted us."""
        return self._session is not None

    def say(self, topic: str, payload: bytes) -> None:
        """Set what a retained topic carries; the newest wins."""
        self._states[topic] = payload
        self._unsaid.pop(topic, None)
        self._unsaid[topic] = None

    def say_status_now(self) -> None:
        """Something of importance changed: do not wait for the next regular status."""
        self._status_at = self._clock()

    def wait_until(self) -> float:
        """The next time at which `tick` has something to do."""
        if self._session is not None:
            silent_at = self._session.silent_at()
            return self._status_at if silent_at is None else min(self._status_at, silent_at)
        return self._connect_at if self._link is None else self._started + ANSWER_S

    def tick(self) -> None:
        """Do what the time demands: connect, give up a connection, publish the status."""
        now = self._clock()
        if self._session is not None:
            silent_at = self._session.silent_at()
            if self._suspect and self._session.proven and now >= self._started + SHORT_LIVED_S:
                self._recovered()
            if silent_at is not None and now >= silent_at:
                self._abandon("acknowledges nothing")
            elif now >= self._status_at:
                self._status_at = now + STATUS_EVERY_S
                self.say("status", self._status_payload())
        elif self._link is None:
            if now >= self._connect_at:
                self._connect(now)
        elif now >= self._started + ANSWER_S:
            self._abandon("does not answer")

    def send(self) -> None:
        """Publish what may be: states, then live events, then the backlog with what is left of the window."""
        session, now = self._session, self._clock()
        if session is None:
            return
        for topic in [topic for topic in self._unsaid if self._refusals.allow(topic)]:
            if not session.room:
                return
            if not session.send(State(topic), self._prefix + topic, self._states[topic], now, retain=True):
                return
            del self._unsaid[topic]
        while self._refusals.allow("event") and session.room and (event := self._outbox.next_unsent()) is not None:
            if not session.send(event, self._prefix + "event", event.payload, now):
                return  # it goes to the log, or out with the next connection
            event.awaited = True
        while self.replay_wait_s() == 0 and (entry := self._spool.next()) is not None:
            seq, payload = entry
            if not session.send(Stored(seq), self._prefix + "replay", payload, now):
                return

    def replay_wait_s(self) -> float | None:
        """Seconds until the next event of the backlog may be sent; None: when something else has happened."""
        if self._session is None or not self._session.room_for_replay or not self._refusals.allow("replay"):
            return None
        return self._spool.wait_s()

    @property
    def idle(self) -> bool:
        """Whether the broker owes us no answer and we owe it no message."""
        return self._session is None or (self._session.idle and not any(map(self._refusals.allow, self._unsaid)))

    def disconnect(self) -> None:
        """End the connection with a goodbye, so that the will stays unpublished."""
        if self._link is not None and self._session is not None:
            self._link.disconnect()
        elif self._link is not None:
            self._link.abandon("Stopped.")

    def join(self, timeout_s: float) -> None:
        """Wait for the connection's thread."""
        if self._link is not None:
            self._link.join(timeout_s)

    # --- the life of a connection ---

    def _connect(self, now: float) -> None:
        number = self._number = self._number + 1
        self._link = Connection(
            self._settings,
            self._client_id,
            self._prefix + "availability",
            lambda report: self._report(number, report),
        )
        self._started = now
        self._link.start()

    def hear(self, number: int, report: Report) -> None:
        """Take a report of connection `number`; those of an earlier one mean nothing any more."""
        if number != self._number or self._link is None:
            return
        match report:
            case Connected(receive_maximum):
                self._greet(self._link, receive_maximum)
            case Acknowledged():
                if self._session is not None:
                    self._answered(self._session, report)
            case Ended():
                self._ended(report)

    def _greet(self, link: Connection, receive_maximum: int) -> None:
        """Tell the broker everything again: it may be another one than before."""
        now = self._clock()
        self._session = Session(link, receive_maximum, now, cautious=self._cautious)
        self._outbox.requeue()
        self._spool.rewind()
        self._status.count("broker_connects")
        self._status.gauge(broker="online", broker_error="")
        self._status_at = now + STATUS_EVERY_S
        self._states["status"] = self._status_payload()
        self._states["availability"] = b"online"
        self._unsaid = {topic: None for topic in GREETING if topic in self._states}

    def _answered(self, session: Session, answer: Acknowledged) -> None:
        if not session.proven and not self._suspect:
            self._recovered()
        what = session.acknowledged(answer.mid, self._clock())
        if what is None:
            return
        if answer.reason:
            session.refused = True
            self._refused(what, answer)
            return
        match what:
            case Pending():
                self._outbox.settle(what)
                self._status.count("events_published")
                self._status.observe("delivery", (self._clock() - what.made) * 1000)
                if what.seq is not None:  # it was stored meanwhile
                    self._spool.delivered(what.seq)
            case Stored(seq):
                self._status.count("events_replayed")
                self._spool.delivered(seq)
            case State():
                return
        self._refusals.over()

    def _recovered(self) -> None:
        self._suspect = False
        sentence = f"Connected to the broker at {place(self._settings)}."
        if self._fault.active:
            self._fault.over(sentence)
        else:
            logger.info("%s", sentence)

    def _refused(self, what: Sent, answer: Acknowledged) -> None:
        match what:
            case Pending():
                topic = "event"
                what.awaited = False
                what.refused = answer.reason
                if what.seq is not None:
                    self._spool.refused(what.seq, answer.reason)
            case Stored(seq):
                topic = "replay"
                self._spool.refused(seq, answer.reason)
            case State():
                topic = what.topic
        if not isinstance(what, State):
            self._status.count("events_refused")
        self._refusals.happened(topic, self._prefix + topic, answer.reason, of_topic=answer.of_topic)

    def _abandon(self, what_it_does: str) -> None:
        if self._link is not None:
            self._link.abandon(f"The broker at {place(self._settings)} {what_it_does}; check that it runs and is free.")
        self._close_session()
        self._started = self._clock()  # it has so long to end

    def _ended(self, end: Ended) -> None:
        now = self._clock()
        # A connection that ends as soon as it began is no success: neither for the back-off, nor as the end of
        # a fault. MQTT 3.1.1 cannot say "taken over"; there a row of short lives is the sign.
        session = self._session
        refused = session is not None and session.refused
        lasted = self._close_session()
        if end.by_broker and not lasted and not refused:
            self._short_lives += 1
        stolen = self._suspect = end.taken_over or self._short_lives >= STOLEN_AFTER
        self._link = None
        sentence = end.sentence
        if stolen:
            verb = "uses" if end.taken_over else "seems to use"
            sentence = (
                f"Another client {verb} the id {self._client_id} at the broker {place(self._settings)}; "
                "give each box a device.name of its own."
            )
        self._connect_at = now + self._backoff.next_s(DENIED_CAP_S if end.denied or stolen else None)
        self._status.gauge(broker="offline", broker_error=sentence)
        self._fault.happened(sentence)

    def _close_session(self) -> bool:
        """Returns whether it had lasted."""
        if self._session is None:
            return False
        lasted = self._session.proven and self._clock() - self._started >= SHORT_LIVED_S
        if lasted:
            self._backoff.reset()
            self._short_lives = 0
        unanswered = self._session.unanswered()
        self._cautious = any(not isinstance(what, State) for what in unanswered)
        for what in unanswered:
            if isinstance(what, Pending):
                what.awaited = False
        self._session = None
        self._spool.rewind()
        return lasted
