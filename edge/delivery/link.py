"""The link to the broker: one connection after another, and what is under way on the open one.

Look here for when a connection is tried, given up or counted as good. One class serves both links, that of the events
(publisher.py) and that of the requests (interfaces/mqtt_requests.py). docs/design.md draws its states under "Topics".
holds.py has the refused topics, learned.py what the link does differently because of its broker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial

from edge.backoff import Backoff
from edge.delivery.connection import OPENED_WITHIN_S, Connection
from edge.delivery.holds import Holds
from edge.delivery.learned import Learned
from edge.delivery.limits import packet_bytes
from edge.delivery.owner import Owner
from edge.delivery.reasons import ACCESS, TAKEN_OVER, TOO_LARGE, Kind, of_connection
from edge.delivery.reports import Acknowledged, Connected, Ended, Granted, Opened, Received, Report
from edge.delivery.short_lives import SUSPECT_AFTER, ShortLives
from edge.settings.schema import MqttSettings

RETRY_FIRST_S, RETRY_CAP_S = 0.5, 4.0  # live events flow again within 5 s of the broker's return
DENIED_CAP_S = 60.0  # after a wrong password or a client id used twice, which a person has to fix
CONNACK_WITHIN_S = 6.0  # from the open TCP connection on; longer than the time limit of TLS
SILENCE_S = 5.0  # without any PUBACK for this long the connection is given up
STEADY_S = 10.0  # connections longer than this reset the back-off
WINDOW = 100  # messages under way at once, unless the broker takes fewer

Call = Callable[[], object]  # for the thread that owns the link to make


class State(Enum):
    """What the link does now."""

    WAITING = auto()  # until the next attempt is due
    CONNECTING = auto()  # no CONNACK yet
    ACCEPTED = auto()  # a CONNACK, but no PUBACK yet: a broker that hangs stays here
    PROVEN = auto()  # at least one PUBACK
    STEADY = auto()  # PROVEN for STEADY_S
    CLOSING = auto()  # given up or ended by us; the connection's last report is awaited


@dataclass(frozen=True, slots=True)
class _UnderWay:
    topic: str
    retained: bool
    at: float
    bytes: int
    answered: Callable[[Acknowledged], None] | None


class Link:
    """Holds at most one connection; used in its owner's thread.

    Args:
        client_id: how the broker knows this link.
        will: topic of the last will, "" for none.
        post: called from the network thread with a call that the owner's thread has to make.
        clock: monotonic seconds.
        connect: makes a connection; passed in by tests.
    """

    def __init__(
        self,
        settings: MqttSettings,
        client_id: str,
        owner: Owner,
        *,
        will: str,
        post: Callable[[Call], None],
        clock: Callable[[], float] = time.monotonic,
        connect: Callable[..., Connection] = Connection,
    ) -> None:
        self._address, self._client_id, self._owner, self._will = settings.address, client_id, owner, will
        self._post, self._clock, self._connect = post, clock, connect
        self._state = State.WAITING
        self._due = clock()  # when time ends the state: WAITING, CONNECTING and PROVEN only
        self._backoff = Backoff(RETRY_FIRST_S, RETRY_CAP_S)
        self._short_lives = ShortLives()
        self._short_in_a_row = 0  # connections that ended before they were steady, for whatever reason
        self._holds = Holds(clock, events=bool(will))
        self._learned = Learned(settings, owner.learned)
        self._granted: Callable[[Granted], None] = lambda report: None
        self._received: Callable[[Received], None] = lambda report: None
        # Of the present connection, which is not started before the end of WAITING:
        self._connection = self._new_connection()
        self._window = 0
        self._under_way: dict[int, _UnderWay] = {}  # by message id, oldest first
        self._answered_at = 0.0
        self._saw_refusal = False
        # A broker may close the connection at a refused message, and if others are under way, the reason can be lost in
        # a TCP reset. So after an end with unanswered events one message is sent at a time until an event is answered.
        self._cautious = False

    # --- what may be sent ---

    @property
    def online(self) -> bool:
        """Whether the broker has accepted the connection."""
        return self._state in (State.ACCEPTED, State.PROVEN, State.STEADY)

    @property
    def idle(self) -> bool:
        """Whether the broker has answered everything."""
        return not self._under_way

    def allows(self, topic: str) -> bool:
        """Whether this topic may be used now: the broker has not refused it lately."""
        return self._holds.allows(topic)

    def hold(self, topic: str, answer: Acknowledged) -> None:
        """Send nothing to this topic for as long as an answer demands."""
        self._saw_refusal = True
        self._holds.refused(topic, answer)

    def tried_enough(self, topic: str) -> bool:
        """Whether a message that the broker refuses for now has been tried so often that others should be."""
        return self._holds.tried_enough(topic)

    def too_large(self, topic: str, payload: bytes, correlation: bytes = b"") -> str:
        """Why the broker would close the connection for this message, "" if it is small enough."""
        return self._learned.too_large(topic, payload, correlation)

    def takes(self, topic: str) -> bool:
        """Whether one more message may be sent to this topic now."""
        return self.online and len(self._under_way) < self._room and self._lets(topic)

    def takes_backlog(self, topic: str) -> bool:
        """The same for the backlog, which leaves a quarter of the window to live events."""
        proven = self._state in (State.PROVEN, State.STEADY)
        return proven and len(self._under_way) < max(1, self._room * 3 // 4) and self._lets(topic)

    def _lets(self, topic: str) -> bool:
        """Whether the topic is not held; after a refusal one message probes it."""
        if not self.allows(topic):
            return False
        return not self._holds.has_refused(topic) or all(message.topic != topic for message in self._under_way.values())

    @property
    def _room(self) -> int:
        return 1 if self._cautious else self._window

    def send(
        self,
        topic: str,
        payload: bytes,
        answered: Callable[[Acknowledged], None] | None = None,
        *,
        retain: bool = False,
        correlation: bytes = b"",
    ) -> bool:
        """Publish with QoS 1; returns False if the connection is just ending.

        Args:
            answered: called once the broker has answered; at once if the message is too large for it.
        """
        if reason := self._learned.skips(topic, payload, correlation):
            if answered is not None:
                answered(Acknowledged(0, reason, Kind.MESSAGE, of_connection(TOO_LARGE).advice))
            return True
        kept = retain and self._learned.limits.retain
        mid = self._connection.publish(topic, payload, retain=kept, correlation=correlation)
        if mid is not None:
            size = packet_bytes(topic, payload, correlation)
            self._under_way[mid] = _UnderWay(topic, retain, self._clock(), size, answered)
            self._short_lives.sent(topic)
        return mid is not None

    def send_unacknowledged(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 0, if there is a connection."""
        if not self._learned.skips(topic, payload):
            self._connection.publish(topic, payload, qos=0)

    def subscribe(
        self, topics: Sequence[str], *, granted: Callable[[Granted], None], received: Callable[[Received], None]
    ) -> None:
        """Subscribe; `granted` is called with the broker's answer, `received` with each message."""
        self._granted, self._received = granted, received
        self._connection.subscribe(topics)

    # --- transitions ---

    @property
    def due(self) -> float:
        """When `tick` has to be called next, in seconds of the clock."""
        return min(self._due, self._silent_at) if self.online else self._due

    def tick(self) -> None:
        """Make the transition that is due by now."""
        self._holds.tick()
        if (now := self._clock()) < self.due:
            return
        match self._state:
            case State.WAITING:
                self._enter(State.CONNECTING, OPENED_WITHIN_S)
                self._connection.start()
            case State.CONNECTING:
                self._give_up("does not answer", "runs, is free and speaks the mqtt.version that is set")
            case _ if now >= self._silent_at:
                self._give_up("acknowledges nothing")
            case State.PROVEN:
                self._enter(State.STEADY)
                self._backoff.reset()
                if not self._works_at_once:
                    self._owner.works()
                self._short_lives.over()
                self._short_in_a_row = 0

    def take(self, report: Report) -> None:
        """Make the transition that a report of the connection demands."""
        match report:
            case Ended():
                self._ended(report)
            case Opened() if self._state is State.CONNECTING:
                self._enter(State.CONNECTING, CONNACK_WITHIN_S)
            case Connected(limits) if self._state is State.CONNECTING:
                self._enter(State.ACCEPTED)
                self._window = min(limits.receive_maximum, WINDOW)
                self._saw_refusal = False
                self._learned.accepted(limits)
                self._owner.connected()
            case Granted() if self.online:
                self._prove()
                self._granted(report)
            case Received():
                self._received(report)
            case Acknowledged() if self.online:
                self._prove()
                self._acknowledged(report)

    def close(self, timeout_s: float) -> None:
        """End the connection with a DISCONNECT, so that the broker does not publish the will; wait for its thread."""
        if self.online:
            self._connection.disconnect()
        else:
            self._connection.abandon("Stopped.")
        self._enter(State.CLOSING)
        self._connection.join(timeout_s)

    def _new_connection(self) -> Connection:
        return self._connect(
            *(self._learned.settings, self._client_id, self._will),
            lambda report: self._post(partial(self.take, report)),
            keep_will=self._learned.keeps_messages,
        )

    def _enter(self, state: State, for_s: float = float("inf")) -> None:
        self._state, self._due = state, self._clock() + for_s

    @property
    def _silent_at(self) -> float:
        oldest = next(iter(self._under_way.values()), None)
        return float("inf") if oldest is None else max(self._answered_at, oldest.at) + SILENCE_S

    def _give_up(self, what_it_does: str, that_it: str = "runs and is free") -> None:
        self._connection.abandon(f"The broker at {self._address} {what_it_does}; check that it {that_it}.")
        self._enter(State.CLOSING)

    def _prove(self) -> None:
        self._answered_at = self._clock()
        if self._state is State.ACCEPTED:
            self._enter(State.PROVEN, STEADY_S)
            if self._works_at_once:
                self._owner.works()

    @property
    def _works_at_once(self) -> bool:
        """Whether an answered message shows that the connection works, or only one that is steady."""
        return not self._short_lives.suspicious and self._short_in_a_row < SUSPECT_AFTER

    def _acknowledged(self, answer: Acknowledged) -> None:
        message = self._under_way.pop(answer.mid, None)
        if message is None:
            return
        self._short_lives.answered(message.topic, self._clock())
        if not message.retained:
            self._cautious = False
        if answer.reason:
            self.hold(message.topic, answer)
        elif answer.kind is Kind.TAKEN or message.retained or not self._learned.settings.wait_for_subscriber:
            self._holds.accepted(message.topic)
        if message.answered is not None:
            message.answered(answer)

    def _ended(self, end: Ended) -> None:
        sentence, denied, was_online = end.sentence, end.denied, self.online
        self._short_in_a_row += self._state in (State.ACCEPTED, State.PROVEN)
        alone = next(iter(self._under_way.values())) if len(self._under_way) == 1 else None
        differs = self._learned.ended(end, alone.bytes if alone else 0)
        unanswered = [message.topic for message in self._under_way.values()]
        unexplained = self._state in (State.ACCEPTED, State.PROVEN) and not self._saw_refusal
        self._short_lives.ended(end, unanswered, self._clock(), unexplained=unexplained)
        if topic := self._short_lives.suspected_topic():
            refusal = Acknowledged(0, "it closes the connection without a reason", Kind.FINAL, ACCESS)
            self.hold(topic, refusal)
            if alone and alone.answered:
                alone.answered(refusal)
        elif end.by_broker and end.code in (0, TAKEN_OVER) and self._short_lives.suspicious:
            denied = True
            sentence = self._short_lives.sentence(self._learned.limits.client_id or self._client_id, self._address)
        # Messages that are sent one at a time show which one is too large.
        self._cautious = end.code == TOO_LARGE or not all(message.retained for message in self._under_way.values())
        self._under_way.clear()
        self._connection = self._new_connection()
        self._enter(State.WAITING, 0.0 if differs else self._backoff.next_s(DENIED_CAP_S if denied else None))
        if was_online or not differs:
            self._owner.ended(sentence, denied=denied or of_connection(end.code).kind is not Kind.BROKER)
