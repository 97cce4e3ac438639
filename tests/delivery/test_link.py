"""Tests how many messages may be in flight on one connection, and the link's state transitions."""

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, cast

import pytest

from edge.delivery.connection import OPENED_WITHIN_S, Connection
from edge.delivery.holds import HOLD_S, SOON_CAP_S, SOON_FIRST_S
from edge.delivery.limits import Limits
from edge.delivery.link import CONNACK_WITHIN_S, SILENCE_S, STEADY_S, Link
from edge.delivery.reasons import NO_RETAIN, TAKEN_OVER, TOO_LARGE, UNSUPPORTED_VERSION, Kind
from edge.delivery.reports import Acknowledged, Connected, Ended, Opened, Report
from edge.settings.schema import MqttSettings

EVENT, STATE, REPLAY = "edge/porch/event", "edge/porch/status", "edge/porch/replay"


class FakeConnection:
    """Accepts every message."""

    def __init__(self, settings: MqttSettings, keep_will: bool) -> None:
        self.version, self.keep_will = settings.version, keep_will
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
        self.denials: list[bool] = []
        self.restrictions: list[str] = []
        self.answers: list[tuple[str, str]] = []
        self.connections: list[FakeConnection] = []
        connect = cast(Callable[..., Connection], self._connect)
        self.link = Link(
            *(MqttSettings(), "box", self), will="", post=lambda _: None, clock=lambda: self.now, connect=connect
        )

    def _connect(self, settings: MqttSettings, *_: Any, keep_will: bool) -> FakeConnection:
        self.connections.append(FakeConnection(settings, keep_will))
        return self.connections[-1]

    def connected(self) -> None:
        pass

    def works(self) -> None:
        self.works_count += 1

    def ended(self, sentence: str, *, denied: bool) -> None:
        self.ends.append(sentence)
        self.denials.append(denied)

    def learned(self, sentence: str) -> None:
        self.restrictions.append(sentence)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.link.tick()

    def online(self, **limits: Any) -> None:
        self.wait(60.0)  # more than any back-off
        self.take(Connected(Limits(**limits)))

    def take(self, report: Report) -> None:
        self.link.take(report)

    def send(self, topic: str, payload: bytes = b"") -> None:
        assert self.link.send(topic, payload, partial(self._answered, topic), retain=topic == STATE)

    def _answered(self, topic: str, answer: Acknowledged) -> None:
        self.answers.append((topic, answer.reason))

    def acknowledge(self, mid: int, reason: str = "", kind: Kind = Kind.FINAL) -> None:
        self.take(Acknowledged(mid, reason, kind if reason else Kind.TAKEN, "check its access list"))


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
    assert not box.connections[0].abandoned, "the name is being looked up"
    box.take(Opened())
    box.wait(CONNACK_WITHIN_S)
    assert "does not answer" in box.connections[0].abandoned
    box.take(Connected())  # too late
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
        box.wait(1.0)
        box.take(Ended("It ended.", by_broker=True, code=TAKEN_OVER if taken_over else 0))
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


def test_a_full_queue_of_the_broker_is_tried_again_within_seconds_and_with_one_message() -> None:
    box = Box()
    box.online()
    box.send(EVENT)
    box.acknowledge(1, "Quota exceeded, 0x97", Kind.LATER)
    assert not box.link.takes(EVENT)
    box.wait(SOON_CAP_S)
    assert box.link.takes(EVENT)
    box.send(EVENT)
    assert not box.link.takes(EVENT), "one message finds out whether the queue is still full"
    box.acknowledge(2)
    box.send(EVENT)
    assert box.link.takes(EVENT)


def test_a_message_that_is_always_refused_for_now_gives_way_to_the_next_after_three_attempts() -> None:
    box = Box()
    box.online()
    for mid in (1, 2, 3):
        assert not box.link.allows(EVENT) or mid == 1
        box.wait(SOON_CAP_S)
        box.send(EVENT)
        box.acknowledge(mid, "Implementation specific error, 0x83", Kind.LATER)
        assert box.link.tried_enough(EVENT) is (mid == 3)
    assert box.link.takes(EVENT), "with another message, at once"


def test_a_broker_with_a_quota_is_one_fault_until_it_has_taken_everything_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    box = Box()
    box.online()
    for mid in range(1, 41, 2):
        box.wait(SOON_FIRST_S)
        box.send(EVENT)
        box.send(EVENT)
        box.acknowledge(mid, "Quota exceeded, 0x97", Kind.LATER)
        box.acknowledge(mid + 1)
    (began,) = (record.getMessage() for record in caplog.records)
    assert "Quota exceeded" in began
    box.wait(SOON_CAP_S)
    assert "takes edge/porch/event again" in caplog.records[-1].getMessage()


def test_messages_that_are_refused_together_are_one_attempt() -> None:
    box = Box()
    box.online()
    for _ in range(50):
        box.send(EVENT)
    for mid in range(1, 51):
        box.acknowledge(mid, "Quota exceeded, 0x97", Kind.LATER)
    box.wait(SOON_FIRST_S)
    assert box.link.takes(EVENT)


def test_a_broker_without_mqtt_5_is_tried_again_at_once_with_3_1_1_and_it_is_told_once() -> None:
    box = Box()
    box.wait(0.0)
    box.take(Ended("It refuses us.", denied=True, code=UNSUPPORTED_VERSION))
    box.wait(0.0)
    box.take(Connected())
    assert [connection.version for connection in box.connections] == [5, "3.1.1"]
    assert box.ends == [], "that is no fault"
    box.take(Ended("The connection is lost.", by_broker=True))
    box.wait(60.0)
    box.take(Ended("It refuses us.", denied=True, code=UNSUPPORTED_VERSION))
    box.wait(0.0)
    box.take(Connected())
    (told,) = box.restrictions
    assert "does not speak MQTT 5" in told
    assert 'mqtt.version = "3.1.1"' in told
    box.take(Ended("The broker is updated.", by_broker=True))
    box.online()
    assert [connection.version for connection in box.connections] == [5, "3.1.1"] * 2 + [5]
    assert box.restrictions[1:] == [""]


def test_a_message_above_the_broker_s_limit_is_refused_here_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    box = Box()
    box.online(packet_bytes=200)
    for _ in range(3):
        box.send(EVENT, b"x" * 200)
    box.send(EVENT, b"x" * 100)
    assert [reason[-4:] for _, reason in box.answers] == ["0x95"] * 3
    box.acknowledge(1)
    assert box.answers[-1] == (EVENT, "")
    (told,) = (record.getMessage() for record in caplog.records)
    assert "raise the broker's limit" in told
    assert box.restrictions == ["The broker at localhost:1883: It takes packets of at most 200 bytes."]


def test_a_limit_that_the_broker_does_not_state_is_learned_from_its_refusal() -> None:
    box = Box()
    box.online()
    for _ in range(2):
        box.send(STATE, b"x" * 1000)
    box.take(Ended("Too large.", by_broker=True, code=TOO_LARGE))
    box.online()
    box.send(STATE, b"x" * 1000)
    assert not box.link.takes(STATE), "one at a time shows which message it is"
    box.take(Ended("Too large.", by_broker=True, code=TOO_LARGE))
    box.online()
    box.send(STATE, b"x" * 1000)
    assert box.answers[-1][1].endswith("0x95")
    box.take(Ended("The limit is raised, and the broker restarts.", by_broker=True))
    box.online()
    box.send(STATE, b"x" * 1000)
    assert not box.link.idle, "it is sent"


def test_a_will_that_the_broker_refuses_to_keep_is_tried_again_after_that_connection() -> None:
    box = Box()
    box.wait(0.0)
    box.take(Ended("It keeps nothing.", code=NO_RETAIN))
    box.wait(0.0)
    box.take(Connected())
    box.take(Ended("The broker is configured anew, and restarts.", by_broker=True))
    assert [connection.keep_will for connection in box.connections] == [True, False, True]
    box.wait(60.0)
    box.take(Ended("It keeps nothing.", code=NO_RETAIN))
    box.wait(0.0)
    box.take(Ended("It keeps nothing.", code=NO_RETAIN))
    assert box.ends[-1] == "It keeps nothing.", "without the will too: that is a fault"


@pytest.mark.parametrize("acknowledged", [False, True])
def test_a_broker_that_closes_the_connection_at_the_first_message_on_a_topic_is_no_other_client(
    caplog: pytest.LogCaptureFixture, acknowledged: bool
) -> None:
    box = Box()
    for _ in range(3):
        box.online()
        box.send(STATE)
        if acknowledged:  # as MQTT 3.1.1 demands of a refused message
            box.acknowledge(1)
        box.take(Ended("The connection is lost.", by_broker=True))
    assert not box.link.allows(STATE)
    assert not [sentence for sentence in box.ends if "the id box" in sentence]
    (told,) = (record.getMessage() for record in caplog.records)
    assert "closes the connection without a reason); check its access list" in told


@pytest.mark.parametrize(("code", "second_link_tells"), [(0x8B, False), (0x97, True), (0x87, True)])
def test_the_reason_of_an_end_decides_whether_only_this_connection_is_concerned(
    code: int, second_link_tells: bool
) -> None:
    box = Box()
    for _ in range(4):
        box.online()
        box.send(STATE)
        box.acknowledge(1)
        box.take(Ended("It ended.", by_broker=True, code=code))
    assert box.ends == ["It ended."] * 4, "not another client"
    assert box.denials[-1] is second_link_tells


@pytest.mark.parametrize("code", [0, 0x97])
def test_connections_that_end_within_seconds_again_and_again_count_as_working_once_one_is_steady(code: int) -> None:
    """Otherwise each of them would be two lines of the log."""
    box = Box()
    for number in range(20):
        box.online()
        box.send(STATE)
        box.send(EVENT)
        box.acknowledge(1)
        box.wait(1.0)
        box.take(Ended("It ended.", by_broker=number % 2 == 0, code=code))
    assert (before := box.works_count) <= 3
    box.online()
    box.send(STATE)
    box.acknowledge(1)
    box.wait(STEADY_S)
    assert box.works_count == before + 1
    box.take(Ended("The broker restarts.", by_broker=True, code=0x8B))
    before = box.works_count
    box.online()
    box.send(STATE)
    box.acknowledge(1)
    assert box.works_count == before + 1


def test_looking_up_a_name_has_a_time_limit_of_its_own() -> None:
    box = Box()
    box.wait(0.0)
    box.wait(OPENED_WITHIN_S)
    assert "does not answer" in box.connections[0].abandoned


def test_another_client_is_not_mistaken_for_a_refused_topic_while_events_flow() -> None:
    box = Box()
    for _ in range(3):
        box.online()
        box.send(EVENT)
        box.acknowledge(1)
        box.send(EVENT)
        box.take(Ended("It ended.", by_broker=True))
    assert box.link.allows(EVENT)
    assert "seems to use the id box" in box.ends[-1]
