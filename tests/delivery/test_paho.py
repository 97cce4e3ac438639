"""Tests what paho before 2.2, which Debian trixie ships, does not do; test_broker_limits.py has the rest."""

from pathlib import Path

import pytest

from tests.broker import eventually
from tests.delivery.room import room
from tests.faults.stand_in_broker import CLOSE, Packet, stand_in_broker


def test_the_reason_with_which_the_broker_ends_a_connection_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """paho 2.1 calls it a normal end, because nothing follows the reason code."""
    ends = [CLOSE]

    def puback(message: Packet) -> int:
        return ends.pop() if ends and message.topic.endswith("/event") else 0

    with stand_in_broker(puback=puback, disconnect=0x98) as broker, room(broker.url, tmp_path / "fallback.db") as box:
        box.wait_online()
        box.say(1)
        box.wait_published(1)
    assert "Administrative action" in caplog.text


@pytest.mark.parametrize(("code", "words"), [(0x8B, "Server shutting down"), (0xB0, "Unknown reason 0xb0")])
def test_a_refusal_with_a_code_that_no_connack_has_is_no_other_protocol(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, code: int, words: str
) -> None:
    """paho calls the packet malformed, as it calls an answer of MQTT 3.1.1."""
    with stand_in_broker(connack=[code]) as broker, room(broker.url, tmp_path / "fallback.db") as box:
        box.wait_online()
        assert broker.connects == 2
    assert f"refuses us ({words})" in caplog.text


def test_the_keep_alive_that_the_broker_states_is_obeyed(tmp_path: Path) -> None:
    with stand_in_broker(ServerKeepAlive=1) as broker, room(broker.url, tmp_path / "fallback.db") as box:
        box.wait_online()
        eventually(lambda: broker.pings >= 2, "pings")
        assert box.counter("broker_connects") == 1


@pytest.mark.parametrize("answer", [b"\x20\x03\x00\x42\x00", b"\x20\x07\x00\x87\x04\x1f\x00\x01\x00"])
def test_a_malformed_packet_ends_the_connection_with_a_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, answer: bytes
) -> None:
    """paho 2.1 raises struct.error, KeyError, IndexError or, at a zero byte in a text, an exception of its own."""
    with stand_in_broker(answer=answer) as broker, room(broker.url, tmp_path / "fallback.db"):
        eventually(lambda: broker.connects >= 3, "a second attempt with both versions")
    assert "is not MQTT 3.1.1" in caplog.text
    assert not [record for record in caplog.records if record.exc_info]
