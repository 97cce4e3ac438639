"""Tests how many messages may be in flight on one connection, and the link's state transitions."""

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, cast

import pytest

from edge.delivery.connection import Acknowledged, Connected, Connection, Ended, Report
from edge.delivery.link import CONNACK_WITHIN_S, HOLD_S, SILENCE_S, STEADY_S, Link
from edge.settings.schema import MqttSettings

EVENT, STATE, REPLAY = "edge/porch/event", "edge/porch/status", "edge/porch/replay"


class FakeConnection:
    """Accepts every message."""

    def __init__(self, *_: object) -> None:
        self._mids = count(1)
        self.abandoned = ""

    def start(self) -> None:
        pass

    def publish(self, topic: str, payload: bytes, **_: object) -> int:
        return next(self._mids)

    def abandon(self, why: str) -> None:
        self.abandoned = why


class Box:
    """The link's owner, its clock, and the broker's side of the connection."""

    def __init__(self) -> None:
        self.now, self.works_count = 100.0, 0
        self.ends: list[str] = []
        self.answers: list[tuple[str, str]] = []
        self.connections: list[FakeConnection] = []
        connect = cast(Callable[..., Connection], self._connect)
        self.link = Link(
            *(MqttSettings(), "box", self), will="", post=lambda _: None, clock=lambda: self.now, connect=connect
        )

    def _connect(self, *_: Any) -> FakeConnection:
        self.connections.append(FakeConnection())
        return self.connections[-1]

    def connected(self) -> None:
        pass

    def works(self) -> None:
        self.works_count += 1

    def ended(self, sentence: str, *, denied: bool) -> None:
        self.ends.append(sentence)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.link.tick()

    def online(self, receive_maximum: int = 65535) -> None:
        self.wait(60.0)  # more than any back-off
        self.take(Connected(receive_maximum))

    def take(self, report: Report) -> None:
        self.link.take(report)

    def send(self, topic: str) -> None:
        assert self.link.send(topic, b"", partial(self._answered, topic), retain=topic == STATE)

    def _answered(self, topic: str, reason: str) -> None:
        self.answers.append((topic, reason))

    def acknowledge(self, mid: int, reason: str = "") -> None:
        self.take(Acknowledged(mid, reason, bool(reason)))


def test_no_more_is_under_way_than_the_broker_takes() -> None:
    box = Box()
    box.online(receive_maximum=2)
    assert box.link.takes(EVENT)
    box.send(STATE)
    box.send(REPLAY)
    assert not box.link.takes(EVENT)
    box.acknowledge(1)
    assert box.link.takes(EVENT)


def test_the_backlog_waits_for_the_first_answer_and_leaves_a_quarter_of_the_window_to_live_events() -> None:
    box = Box()
    box.online(receive_maximum=4)
    box.send(STATE)
    assert not box.link.takes_backlog(REPLAY)
    box.acknowledge(1)
    for _ in range(3):
        assert box.link.takes_backlog(REPLAY)
        box.send(REPLAY)
    assert not box.link.takes_backlog(REPLAY)
    assert box.link.takes(EVENT)


def test_after_a_broken_connection_one_message_at_a_time_until_an_event_is_answered() -> None:
    box = Box()
    box.online()
    box.send(EVENT)
    box.take(Ended("The connection is lost.", by_broker=True))
    assert box.answers == []
    assert box.link.idle
    box.online()
    box.send(STATE)
    assert not box.link.takes(EVENT)
    box.acknowledge(1)
    box.send(REPLAY)
    assert not box.link.takes(EVENT), "a retained message says nothing about events"
    box.acknowledge(2)
    assert box.answers == [(STATE, ""), (REPLAY, "")]
    box.send(REPLAY)
    assert box.link.takes(EVENT)


def test_a_connection_without_a_connack_or_without_pubacks_is_given_up_and_made_again() -> None:
    box = Box()
    box.wait(0.0)
    box.wait(CONNACK_WITHIN_S)
    assert "does not answer" in box.connections[0].abandoned
    box.take(Connected(65535))  # too late
    assert not box.link.online
    box.take(Ended("It does not answer."))
    box.online()
    box.send(EVENT)
    box.wait(SILENCE_S)
    assert "acknowledges nothing" in box.connections[1].abandoned
    assert not box.link.online
    assert box.works_count == 0, "that is no connection"


@pytest.mark.parametrize("taken_over", [True, False])
def test_another_client_with_our_id_is_suspected_until_a_connection_is_steady(taken_over: bool) -> None:
    box = Box()
    for _ in range(1 if taken_over else 3):
        box.online()
        box.send(STATE)
        box.acknowledge(1)
        box.take(Ended("The broker ended the connection.", taken_over=taken_over, by_broker=True))
    assert ("uses the id box" if taken_over else "seems to use the id box") in box.ends[-1]
    before = box.works_count
    box.online()
    box.send(STATE)
    box.acknowledge(1)
    assert box.works_count == before
    box.wait(STEADY_S)
    assert box.works_count == before + 1


def test_ends_that_follow_a_refusal_or_come_before_the_connack_are_no_sign_of_another_client() -> None:
    box = Box()
    for _ in range(5):
        box.online()
        box.send(STATE)
        box.acknowledge(1, "Not authorized, 0x87")
        box.take(Ended("The broker ended the connection.", by_broker=True))
        box.wait(60.0)
        box.take(Ended("The connection is lost.", by_broker=True))
    assert not [sentence for sentence in box.ends if "the id box" in sentence]


def test_a_refused_topic_is_left_alone_for_a_while_and_reported_until_it_is_accepted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    box = Box()
    box.online()
    box.send(EVENT)
    box.acknowledge(1, "Not authorized, 0x87")
    assert not box.link.takes(EVENT)
    assert box.link.takes(STATE)
    box.take(Ended("The connection is lost.", by_broker=True))
    box.online()
    assert not box.link.takes(EVENT), "it is remembered longer than a connection"
    box.wait(HOLD_S)
    box.send(EVENT)
    box.acknowledge(1)
    refused, accepted = (record.getMessage() for record in caplog.records)
    assert "The broker refuses edge/porch/event (Not authorized, 0x87); check its access list." in refused
    assert "The broker takes edge/porch/event again." in accepted
