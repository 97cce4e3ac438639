"""Tests that a broker is reached although some of its addresses are dead, over IPv6 and IPv4."""

import errno
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.delivery import link
from edge.delivery.blocking_client import connected
from edge.delivery.tcp import open_tcp
from edge.settings.schema import MqttSettings
from tests.broker import Brokers
from tests.delivery.room import room

SILENT = ("10.255.255.1", "192.0.2.1", "198.51.100.1")  # without an answer, or without a route


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def found(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Make every name have these addresses, in this order."""

    def getaddrinfo(_: str, port: int, *__: object, **___: object) -> list[tuple[object, ...]]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def never_connects(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Make these addresses swallow every packet, as behind a firewall; returns which were tried."""
    real, tried = socket.socket.connect_ex, []

    def connect_ex(this: socket.socket, where: tuple[str, int]) -> int:
        tried.append(where[0])
        return errno.EINPROGRESS if where[0] in addresses else real(this, where)

    monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)
    return tried


def test_dead_addresses_before_a_live_one_cost_less_than_a_second_each(
    monkeypatch: pytest.MonkeyPatch, server: socket.socket
) -> None:
    found(monkeypatch, *SILENT, "127.0.0.1")
    began = time.monotonic()
    with open_tcp("broker", server.getsockname()[1], 3.0) as opened:
        assert opened.getpeername()[0] == "127.0.0.1"
    assert time.monotonic() - began < 3.0


def test_ipv6_and_ipv4_are_tried_in_turn(monkeypatch: pytest.MonkeyPatch, server: socket.socket) -> None:
    found(monkeypatch, "::1", "2001:db8::1", "2001:db8::2", "127.0.0.1")
    tried = never_connects(monkeypatch, "2001:db8::1", "2001:db8::2")
    with open_tcp("broker", server.getsockname()[1], 3.0) as opened:
        assert opened.family == socket.AF_INET
    assert tried == ["::1", "127.0.0.1"]


def test_a_refused_connection_is_named(monkeypatch: pytest.MonkeyPatch, server: socket.socket) -> None:
    port = server.getsockname()[1]
    server.close()
    found(monkeypatch, "127.0.0.1")
    with pytest.raises(ConnectionRefusedError):
        open_tcp("broker", port, 3.0)


def test_an_attempt_that_is_not_wanted_any_more_ends_at_once_and_leaves_no_socket(
    monkeypatch: pytest.MonkeyPatch, server: socket.socket
) -> None:
    found(monkeypatch, "127.0.0.1")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(ConnectionAbortedError):
        open_tcp("broker", server.getsockname()[1], 3.0, wanted=lambda: False)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_time_that_dead_name_servers_cost_is_not_the_broker_s(
    brokers: Brokers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "CONNACK_WITHIN_S", 0.5)
    broker, lookup = brokers.start(), socket.getaddrinfo

    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(1.5)  # as a resolver that waits for its first server
        return lookup(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with room(broker.url.replace("127.0.0.1", "localhost"), tmp_path / "fallback.db") as box:
        box.wait_online()
        assert box.counter("broker_connects") == 1
    with connected(MqttSettings(url=broker.url), "doctor", within_s=0.5) as client:
        assert client.publish("edge/porch/doctor", b"") == ""
