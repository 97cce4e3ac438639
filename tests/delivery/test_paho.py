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


def test_the_keep_alive_that_the_broker_states_is_obeyed(tmp_path: Path) -> None:
    with stand_in_broker(ServerKeepAlive=1) as broker, room(broker.url, tmp_path / "fallback.db") as box:
        box.wait_online()
        eventually(lambda: broker.pings >= 2, "pings")
        assert box.counter("broker_connects") == 1


def test_a_malformed_packet_ends_the_connection_with_a_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """paho 2.1 raises struct.error, KeyError or IndexError in the network thread."""
    with stand_in_broker(answer=b"\x20\x03\x00\x42\x00") as broker, room(broker.url, tmp_path / "fallback.db"):
        eventually(lambda: broker.connects >= 3, "a second attempt with both versions")
    assert "is not MQTT 3.1.1" in caplog.text
    assert not [record for record in caplog.records if record.exc_info]
