"""Tests that a client which takes its answers slowly gets them whole, and one that hardly takes them is closed."""

import socket
import time

import pytest

from edge.interfaces.web import connection
from edge.interfaces.web.listener import BoundedListener
from tests.interfaces.web.box import WAIT_S, Box, has, running
from tests.interfaces.web.test_strangers import place_of

REQUEST = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"


def slow_client(box: Box) -> socket.socket:
    """A connection with a small receive window, so that answers wait in the daemon."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.connect(place_of(box.server.address))
    one.settimeout(WAIT_S)
    return one


def test_an_answer_arrives_whole_however_long_its_client_takes_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADERS_WITHIN_S", 0.2)
    listen = BoundedListener.listen

    def with_little_room(listening: BoundedListener, *backlog: int) -> None:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # its connections inherit it
        listen(listening, *backlog)

    monkeypatch.setattr(BoundedListener, "listen", with_little_room)
    with running() as box:
        expected = box.client.get("/openapi.json").content  # before the slow client, whose request has to come in time
        with slow_client(box) as one:
            one.sendall(REQUEST)
            received = bytearray()
            while not received.endswith(expected[-1000:]) and (piece := one.recv(4096)):
                received += piece
                time.sleep(0.03)  # the line is slow
            assert received.endswith(expected)


def test_a_client_that_takes_a_few_bytes_now_and_then_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TAKEN_WITHIN_S", 0.3)
    with running() as box, slow_client(box) as one:
        one.setblocking(False)

        def closed() -> bool:
            try:
                one.send(REQUEST * 50)
            except BlockingIOError:
                pass
            except ConnectionError:
                return True
            try:
                return one.recv(100) == b""
            except BlockingIOError:
                return False
            except ConnectionError:
                return True

        assert has(closed, within_s=WAIT_S / 2)  # earlier than the kernel closes it
        assert box.client.get("/healthz").status_code == 200
