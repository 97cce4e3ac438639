"""Tests that a client of /api/stream whose connection breaks gets the events since, or learns that some are lost."""

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from edge.events import Event, Label
from edge.interfaces.web import event_stream
from edge.status.recent import KEPT_EVENTS, Recent
from tests.interfaces.web.box import WAIT_S, Box, has, running
from tests.interfaces.web.test_strangers import place_of

WITHIN_S = 1.5
RUN = "porch-5f1c2e7a-0812400"


class Message(NamedTuple):
    """One server-sent event."""

    kind: str
    id: str
    data: Any


@pytest.fixture
def box() -> Iterator[Box]:
    with running(frames_per_s=1) as started:
        assert has(started.recent.latest)
        yield started


def event(number: int, run: str = RUN) -> Event:
    top = (Label("cat", 86.0, 1),)
    time = "2026-11-22T10:00:00.000Z"
    return Event(f"{run}-{number:06d}", "porch", "change", time, True, "5f1c2e7a", 1.0, "cat", top, "m", {})


@contextlib.contextmanager
def listening(box: Box, last_id: str | None = None) -> Iterator[Iterator[Message]]:
    """The messages about events, and those without a kind, of one connection."""
    headers = {} if last_id is None else {b"last-event-id": last_id.encode()}
    with box.client.stream("GET", "/api/stream", headers=headers) as stream:
        assert stream.status_code == 200
        yield messages(stream)


def messages(stream: httpx.Response) -> Iterator[Message]:
    fields: dict[str, str] = {}
    for line in stream.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if fields.get("event") in ("event", "missed") or set(fields) == {"retry", "id"}:
            yield Message(fields.get("event", ""), fields.get("id", ""), json.loads(fields.get("data", "null")))
        fields = {}


def test_each_event_has_its_id_and_those_of_an_interruption_come_afterwards_in_order(box: Box) -> None:
    newest = box.recent.latest()
    assert newest is not None
    with listening(box) as stream:
        assert next(stream) == Message("", newest.id, None), "an interruption before the first event"
        box.recent.add(event(10))
        first = next(stream)
        assert (first.kind, first.id, first.data["id"]) == ("event", event(10).id, event(10).id)
    for number in (11, 12, 13):
        box.recent.add(event(number))
    with listening(box, first.id) as stream:
        assert [next(stream).id for _ in range(3)] == [event(n).id for n in (11, 12, 13)]
        box.recent.add(event(14))
        assert next(stream) == Message("event", event(14).id, json.loads(event(14).to_json()))


def test_a_client_that_has_the_newest_event_gets_no_other(box: Box) -> None:
    box.recent.add(event(1))
    with listening(box, event(1).id) as stream:
        box.recent.add(event(2))
        assert next(stream).id == event(2).id


def test_an_interruption_that_was_too_long_is_reported_with_the_number_of_lost_events(box: Box) -> None:
    for number in range(100, 100 + KEPT_EVENTS):
        box.recent.add(event(number))
    with listening(box, event(60).id) as stream:
        assert next(stream) == Message("missed", "", {"after": event(60).id, "events": 39})
        assert next(stream).id == event(100).id
        assert [next(stream).id for _ in range(KEPT_EVENTS - 1)][-1] == event(99 + KEPT_EVENTS).id


@pytest.mark.parametrize(
    "last_id",
    [
        event(5, "porch-0badcafe-0000100").id,  # before a restart
        event(99).id,  # not made yet
        "garbage",
        f"{RUN}-",
        f"{RUN}-" + "9" * 5000,
        "-",
        "☃",
    ],
)
def test_after_an_id_that_is_not_remembered_come_all_events_in_memory(box: Box, last_id: str) -> None:
    newest = box.recent.latest()
    assert newest is not None
    box.recent.add(event(1))
    with listening(box, last_id) as stream:
        missed = next(stream)
        assert (missed.kind, missed.data["events"]) == ("missed", None)
        assert len(missed.data["after"]) <= event_stream.MAX_ID
        assert [next(stream).id for _ in range(2)] == [newest.id, event(1).id]


def test_an_empty_id_is_none(box: Box) -> None:
    newest = box.recent.latest()
    assert newest is not None
    with listening(box, "") as stream:
        assert next(stream) == Message("", newest.id, None)


def test_a_listener_that_is_slower_than_the_events_learns_how_many_it_missed() -> None:
    recent = Recent()
    recent.add(event(1))
    events = event_stream._Events(recent, "")
    for number in range(2, KEPT_EVENTS + 5):
        recent.add(event(number))
    first = next(events.new())
    assert json.loads(first.split("data: ")[1]) == {"after": event(1).id, "events": 3}


def test_clients_that_ask_for_every_event_and_leave_take_little_time(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(KEPT_EVENTS):
        box.recent.add(event(number))
    clients, reset = 60, struct.pack("ii", 1, 0)
    asked = b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: unknown\r\n\r\n"
    began = time.process_time()
    for _ in range(clients):
        with socket.create_connection(place_of(box.server.address), WAIT_S) as client:
            client.sendall(asked)
            assert client.recv(12)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    assert box.client.get("/healthz").status_code == 200
    assert time.process_time() - began < WITHIN_S, "mostly 0.4 s; 4 s if each gets all that it asked for"
    assert caplog.records == []
