"""Tests the limits that a CONNACK states, and the size of a message."""

import socket

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.delivery.limits import LARGEST_PACKET, UNLIMITED, Limits, packet_bytes, read_limits
from edge.delivery.reasons import Kind, of_connection, of_topic


def test_a_connack_that_states_nothing_limits_nothing() -> None:
    assert read_limits(None) == read_limits(Properties(PacketTypes.CONNACK)) == Limits()
    assert Limits().sentence() == ""
    assert (Limits().receive_maximum, Limits().packet_bytes) == (UNLIMITED, LARGEST_PACKET)


def test_every_limit_is_read() -> None:
    properties = Properties(PacketTypes.CONNACK)
    properties.ReceiveMaximum, properties.MaximumPacketSize, properties.MaximumQoS = 5, 2000, 1
    properties.RetainAvailable, properties.ServerKeepAlive, properties.AssignedClientIdentifier = 0, 10, "theirs"
    limits = read_limits(properties)
    assert limits == (5, 2000, 1, False, 10, "theirs")
    assert "no retained messages" in limits.sentence()
    assert "at most 2000 bytes" in limits.sentence()


@pytest.mark.parametrize("correlation", [b"", b"x" * 30])
@pytest.mark.parametrize("size", [0, 100, 127, 128, 20_000, 3_000_000])
def test_a_message_is_never_larger_than_computed(size: int, correlation: bytes) -> None:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    sent: list[bytes] = []
    client._packet_queue = lambda command, packet, *_: sent.append(bytes(packet))  # type: ignore[method-assign]
    properties = Properties(PacketTypes.PUBLISH)
    if correlation:
        properties.CorrelationData = correlation
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client._sock = ours
        client._send_publish(1, "edge/Küche/event".encode(), b"x" * size, 1, True, False, None, properties)
        client._sock = None
    computed = packet_bytes("edge/Küche/event", b"x" * size, correlation)
    assert len(sent[0]) <= computed <= len(sent[0]) + 4


def test_every_reason_code_has_an_advice_that_ends_a_sentence() -> None:
    for code in range(0x80, 0xA3):
        for meaning in (of_connection(code), of_topic(code)):
            assert meaning.advice
            assert not meaning.advice.endswith(".")
            assert meaning.kind not in (Kind.TAKEN, Kind.UNHEARD)
    assert of_topic(0).kind is Kind.TAKEN
    assert of_topic(0x10).kind is Kind.UNHEARD
