"""The link to the broker: one connection after another, what is under way on the open one, and refused topics.

Look here for when a connection is tried, given up or counted as good. One class serves both links, that of the events
(publisher.py) and that of the requests (interfaces/mqtt_requests.py). docs/design.md draws its states under "Topics".
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Protocol

from edge.backoff import Backoff
from edge.delivery.connection import Acknowledged, Connected, Connection, Ended, Granted, Received, Report
from edge.repeating_fault import RepeatingFault
from edge.settings.schema import MqttSettings

logger = logging.getLogger("edge.delivery")

RETRY_FIRST_S, RETRY_CAP_S = 0.5, 4.0  # live events flow again within 5 s of the broker's return
DENIED_CAP_S = 60.0  # after a wrong password or a client id used twice, which a person has to fix
CONNACK_WITHIN_S = 6.0  # longer than the timeouts of TCP and TLS
SILENCE_S = 5.0  # without any PUBACK for this long the connection is given up
STEADY_S = 10.0  # connections longer than this reset the back-off
TWIN_AFTER = 3  # short connections in a row that indicate another client with our id
WINDOW = 100  # messages under way at once, unless the broker takes fewer
HOLD_S = 600.0  # how long nothing is sent to a topic that the broker refused
MAX_REFUSED = 100  # topics that are remembered as refused

Call = Callable[[], object]  # for the thread that owns the link to make


class State(Enum):
    """What the link does now."""

    WAITING = auto()  # until the next attempt is due
    CONNECTING = auto()  # no CONNACK yet
    ACCEPTED = auto()  # a CONNACK, but no PUBACK yet: a broker that hangs stays here
    PROVEN = auto()  # at least one PUBACK
    STEADY = auto()  # PROVEN for STEADY_S
    CLOSING = auto()  # given up or ended by us; the connection's last report is awaited


class Owner(Protocol):
    """What the link calls in its owner's thread."""

    def connected(self) -> None:
        """A connection begins; the broker may be another one, so retained topics have to be sent again."""

    def works(self) -> None:
        """The broker acknowledges messages, and no other client seems to use our id."""

    def ended(self, sentence: str, *, denied: bool) -> None:
        """A connection ended; `denied`: another attempt within seconds would fail too."""


@dataclass(frozen=True, slots=True)
class _UnderWay:
    topic: str
    retained: bool
    at: float
    answered: Callable[[str], None] | None


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
        connect: Callable[[MqttSettings, str, str, Callable[[Report], None]], Connection] = Connection,
    ) -> None:
        self._settings, self._client_id, self._owner, self._will = settings, client_id, owner, will
        self._post, self._clock, self._connect = post, clock, connect
        self._state = State.WAITING
        self._due = clock()  # when time ends the state: WAITING, CONNECTING and PROVEN only
        self._backoff = Backoff(RETRY_FIRST_S, RETRY_CAP_S)
        self._short_lives = 0  # connections in a row that ended before they were steady, for no other known reason
        self._refused: dict[str, float] = {}  # refused topic → when it may be tried again
        self._fault = RepeatingFault(logger, clock=clock)
        self._granted: Callable[[Granted], None] = lambda report: None
        self._received: Callable[[Received], None] = lambda report: None
        # Of the present connection, which is not started before the end of WAITING:
        self._connection = self._new_connection()
        self._window = 0
        self._under_way: dict[int, _UnderWay] = {}  # by message id, oldest first
        self._answered_at = 0.0
        self._saw_refusal = False
        # A broker may answer a refused message by closing the connection. If other messages are under way then, the
        # refusal and its reason can be lost in a TCP reset. So after a connection that ended with unanswered events,
        # messages are sent one at a time until an event is answered.
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
        """Whether the broker has not refused this topic in the last ten minutes."""
        return not self._refused or self._clock() >= self._refused.get(topic, 0.0)

    def takes(self, topic: str) -> bool:
        """Whether one more message may be sent to this topic now."""
        return self.online and len(self._under_way) < self._room and self.allows(topic)

    def takes_backlog(self, topic: str) -> bool:
        """The same for the backlog, which leaves a quarter of the window to live events."""
        proven = self._state in (State.PROVEN, State.STEADY)
        return proven and len(self._under_way) < max(1, self._room * 3 // 4) and self.allows(topic)

    @property
    def _room(self) -> int:
        return 1 if self._cautious else self._window

    def send(
        self,
        topic: str,
        payload: bytes,
        answered: Callable[[str], None] | None = None,
        *,
        retain: bool = False,
        correlation: bytes = b"",
    ) -> bool:
        """Publish with QoS 1; returns False if the connection is just ending.

        Args:
            answered: called once the broker has answered, with "" or why it refused the message.
        """
        mid = self._connection.publish(topic, payload, retain=retain, correlation=correlation)
        if mid is not None:
            self._under_way[mid] = _UnderWay(topic, retain, self._clock(), answered)
        return mid is not None

    def send_unacknowledged(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 0, if there is a connection."""
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
        if (now := self._clock()) < self.due:
            return
        match self._state:
            case State.WAITING:
                self._enter(State.CONNECTING, CONNACK_WITHIN_S)
                self._connection.start()
            case State.CONNECTING:
                self._give_up("does not answer")
            case _ if now >= self._silent_at:
                self._give_up("acknowledges nothing")
            case State.PROVEN:
                self._enter(State.STEADY)
                self._backoff.reset()
                suspected, self._short_lives = self._twin_suspected, 0
                if suspected:
                    self._owner.works()

    def take(self, report: Report) -> None:
        """Make the transition that a report of the connection demands."""
        match report:
            case Ended():
                self._ended(report)
            case Connected(receive_maximum) if self._state is State.CONNECTING:
                self._enter(State.ACCEPTED)
                self._window = max(1, min(receive_maximum, WINDOW))
                self._saw_refusal = False
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
            *(self._settings, self._client_id, self._will), lambda report: self._post(partial(self.take, report))
        )

    def _enter(self, state: State, for_s: float = float("inf")) -> None:
        self._state, self._due = state, self._clock() + for_s

    @property
    def _silent_at(self) -> float:
        oldest = next(iter(self._under_way.values()), None)
        return float("inf") if oldest is None else max(self._answered_at, oldest.at) + SILENCE_S

    @property
    def _twin_suspected(self) -> bool:
        return self._short_lives >= TWIN_AFTER

    def _give_up(self, what_it_does: str) -> None:
        where = self._settings.address
        self._connection.abandon(f"The broker at {where} {what_it_does}; check that it runs and is free.")
        self._enter(State.CLOSING)

    def _prove(self) -> None:
        self._answered_at = self._clock()
        if self._state is State.ACCEPTED:
            self._enter(State.PROVEN, STEADY_S)
            if not self._twin_suspected:
                self._owner.works()

    def _acknowledged(self, answer: Acknowledged) -> None:
        message = self._under_way.pop(answer.mid, None)
        if message is None:
            return
        if not message.retained:
            self._cautious = False
        if answer.reason:
            self._refuse(message.topic, answer)
        elif self._refused.pop(message.topic, None) is not None and not self._refused:
            self._fault.over(f"The broker takes {message.topic} again.")
        if message.answered is not None:
            message.answered(answer.reason)

    def _refuse(self, topic: str, answer: Acknowledged) -> None:
        self._saw_refusal = True
        if len(self._refused) >= MAX_REFUSED:
            del self._refused[next(iter(self._refused))]
        self._refused[topic] = self._clock() + HOLD_S if answer.of_topic else 0.0
        self._fault.happened(
            f"The broker refuses {topic} ({answer.reason}); check its access list. "
            "It is tried again later, and events stay in the log until then."
        )

    def _ended(self, end: Ended) -> None:
        sentence, denied = end.sentence, end.denied
        # MQTT 3.1.1 does not report "taken over"; there, several short connections in a row indicate it.
        if end.taken_over:
            self._short_lives = TWIN_AFTER
        elif end.by_broker and self._state in (State.ACCEPTED, State.PROVEN) and not self._saw_refusal:
            self._short_lives += 1
        if end.by_broker and self._twin_suspected:
            verb, denied = "uses" if end.taken_over else "seems to use", True
            sentence = (
                f"Another client {verb} the id {self._client_id} at the broker {self._settings.address}; "
                "give each box a device.name of its own."
            )
        self._cautious = not all(message.retained for message in self._under_way.values())
        self._under_way.clear()
        self._connection = self._new_connection()
        self._enter(State.WAITING, self._backoff.next_s(DENIED_CAP_S if denied else None))
        self._owner.ended(sentence, denied=denied)
