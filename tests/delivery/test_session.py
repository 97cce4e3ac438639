"""How much may be under way on one connection."""

from itertools import count
from typing import cast

from edge.delivery.connection import Connection
from edge.delivery.session import Session, State, Stored


class Link:
    """Takes every message."""

    def __init__(self) -> None:
        self._mids = count(1)

    def publish(self, topic: str, payload: bytes, retain: bool) -> int:
        return next(self._mids)


def session(receive_maximum: int, *, cautious: bool = False) -> Session:
    return Session(cast(Connection, Link()), receive_maximum, 0.0, cautious=cautious)


def test_no_more_is_under_way_than_the_broker_takes() -> None:
    talk = session(2)
    assert talk.room
    talk.send(State("status"), "edge/porch/status", b"", 0.0)
    talk.send(Stored(1), "edge/porch/replay", b"", 0.0)
    assert not talk.room
    talk.acknowledged(1, 0.1)
    assert talk.room


def test_after_a_broken_conversation_one_message_at_a_time_until_an_event_is_answered() -> None:
    talk = session(65535, cautious=True)
    talk.send(State("status"), "edge/porch/status", b"", 0.0)
    assert not talk.room
    talk.acknowledged(1, 0.1)
    talk.send(Stored(1), "edge/porch/replay", b"", 0.2)
    assert not talk.room, "a retained message says nothing about events"
    talk.acknowledged(2, 0.3)
    talk.send(Stored(2), "edge/porch/replay", b"", 0.4)
    assert talk.room
