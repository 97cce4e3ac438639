"""Tests brokers that take less than others: nothing is lost, and one sentence says what is missing."""

import json
import logging
import time
from pathlib import Path

import pytest

from edge.commands.try_broker import running_broker
from edge.delivery.blocking_client import connected
from edge.interfaces import mqtt_requests
from edge.settings.schema import MqttSettings
from tests.broker import Brokers, eventually
from tests.delivery.room import room, stored_ids
from tests.faults.accounts import account
from tests.faults.stand_in_broker import CLOSE, HANG_UP, Packet, stand_in_broker
from tests.request_box import BASE, Asker, box

NO_SUBSCRIBER, QUOTA, IMPLEMENTATION = 0x10, 0x97, 0x83


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "state" / "fallback.db"


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edge")


def lines(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if words in record.getMessage()]


def test_a_broker_without_retained_messages_gets_everything_else(
    brokers: Brokers, log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = brokers.start("retain_available false")
    subscriber = brokers.subscribe(broker)
    with room(broker.url, log) as box:
        box.wait_online()
        box.say(3, reason="change")
        box.wait_published(3)
        assert "keeps no retained messages" in box.gauge("broker_limits")
    eventually(
        lambda: [m.payload for m in subscriber.on("porch/availability")] == [b"online", b"offline"], "the states"
    )
    account(box.made, subscriber, log)
    assert len(lines(caplog, "keeps no retained messages")) == 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_is_larger_than_the_broker_takes_is_shortened_or_skipped(
    brokers: Brokers, log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = brokers.start("max_packet_size 600")
    subscriber = brokers.subscribe(broker)
    with room(broker.url, log) as box:
        box.status.gauge(**{f"something_{n}": "long" * 20 for n in range(20)})
        box.wait_online()
        box.say(3)
        box.wait_published(3)
        (large,) = box.say(1, label="x" * 500)
        eventually(lambda: box.counter("events_refused") == 1, "it is not sent")
        box.say(2)
        box.wait_published(5)
        status = json.loads(eventually(lambda: subscriber.on("status"), "the status")[-1].payload)
        assert status["broker"] == "online"
        assert box.counter("broker_connects") == 1
        assert "packets of at most 600 bytes" in box.gauge("broker_limits")
    assert stored_ids(log) == [large]
    assert len(lines(caplog, "raise the broker's limit")) == 1


def test_a_message_above_mosquitto_s_message_size_limit_does_not_block_the_others(
    brokers: Brokers, log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The CONNACK does not state this limit, and paho does not know the reason code for a message."""
    broker = brokers.start("message_size_limit 600")
    subscriber = brokers.subscribe(broker)
    with room(broker.url, log) as box:
        box.wait_online()
        (large,) = box.say(1, label="x" * 600)
        others = box.say(3)
        eventually(lambda: sorted(subscriber.ids("event") + subscriber.ids("replay")) == others, "the others arrive")
        box.wait_stored(1)
        assert box.stored_ids() == [large]
    assert lines(caplog, "refuses a message on edge/porch/event (Packet too large, 0x95); raise its limit")


def test_a_refused_event_is_not_tried_again_on_each_connection(brokers: Brokers, log: Path) -> None:
    """Mosquitto 2.0.11 ends the connection at each refused message, so that a retry costs a connection."""
    with room("mqtt://127.0.0.1:1", log) as box:
        (large,) = box.say(1, label="x" * 600)
        others = box.say(3)
        box.wait_stored(4)
    broker = brokers.start("message_size_limit 600")
    subscriber = brokers.subscribe(broker)
    with room(broker.url, log, run=2) as box:
        eventually(lambda: set(others) <= set(subscriber.ids("replay")), "the others arrive")
        eventually(lambda: box.counter("events_refused") and box.gauge("broker") == "online", "a refusal")
        eventually(lambda: box.gauge("log_depth") == 1, "it stays alone")
        connects = box.counter("broker_connects")
        for number in range(1, 31):
            box.say(1)
            box.wait_published(number)
            time.sleep(0.1)  # longer in all than the wait before another connection
        assert box.counter("broker_connects") == connects
        assert box.stored_ids() == [large]


def test_requests_and_discovery_obey_the_limit_too(
    brokers: Brokers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = brokers.start("max_packet_size 900")
    asking = Asker(broker)
    try:
        with box(broker, tmp_path):
            eventually(
                lambda: lines(caplog, "homeassistant/device/edge-classifier-porch/config is not sent"), "one line"
            )
            asking.send(BASE + "request/snapshot", {"transaction": 7})
            answer = json.loads(asking.answers.get(timeout=20).payload)
    finally:
        asking.close()
    assert answer["status"] == "error"
    assert answer["transaction"] == 7
    assert "too large for the broker" in answer["error"]


def test_a_broker_that_takes_qos_0_only_is_refused_with_a_true_sentence(brokers: Brokers, log: Path) -> None:
    broker = brokers.prepare("max_qos 0")
    broker.start()
    with room(broker.url, log) as box:
        eventually(lambda: "QoS 0 acknowledges nothing" in (box.gauge("broker_error") or ""), "the sentence")
        assert "password" not in box.gauge("broker_error")
        box.say(2)
        box.wait_stored(2)


def test_a_broker_with_mqtt_3_1_1_only_is_used_and_it_is_told_once(log: Path, caplog: pytest.LogCaptureFixture) -> None:
    with stand_in_broker(level=4) as broker:
        with room(broker.url, log) as box:
            box.wait_online()
            box.say(3)
            box.wait_published(3)
            assert "does not speak MQTT 5" in box.gauge("broker_limits")
            assert box.gauge("broker_error") == ""
        with connected(MqttSettings(url=broker.url), "doctor") as client:
            assert client.version == "3.1.1"
            assert client.publish("edge/porch/doctor", b"") == ""
    assert len(lines(caplog, 'mqtt.version = "3.1.1" spares the attempt')) == 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_broker_that_does_not_answer_mqtt_5_is_a_sentence_that_names_the_version(tmp_path: Path, log: Path) -> None:
    """amqtt sends no CONNACK at all."""
    pytest.importorskip("amqtt")
    with running_broker(tmp_path, mosquitto=None) as broker, room(f"mqtt://127.0.0.1:{broker.port}", log) as box:
        eventually(lambda: "mqtt.version" in (box.gauge("broker_error") or ""), "the sentence")


@pytest.mark.parametrize("code", [QUOTA, IMPLEMENTATION])
def test_a_full_queue_is_tried_again_within_seconds(log: Path, caplog: pytest.LogCaptureFixture, code: int) -> None:
    full = True

    def puback(message: Packet) -> int:
        return code if full and message.topic.endswith(("/event", "/replay")) else 0

    with stand_in_broker(puback=puback) as broker, room(broker.url, log) as box:
        box.wait_online()
        box.say(5)
        eventually(lambda: box.counter("events_refused") >= 1, "a refusal")
        box.wait_stored(5)
        full = False
        began = time.monotonic()
        eventually(lambda: box.gauge("log_depth") == 0, "everything arrives")
        assert time.monotonic() - began < 20.0
        # Each once; the queue may have become free in the middle of several messages.
        assert sorted(broker.ids("event") + broker.ids("replay")) == box.made
    assert len(lines(caplog, "a queue of the broker may be full")) <= 2


@pytest.mark.parametrize("code", [IMPLEMENTATION, 0x80, 0x95, 0x99, 0x9E, 0xB0])
def test_an_event_that_the_broker_never_takes_does_not_block_the_others(log: Path, code: int) -> None:
    """0x83 can mean a full queue, or a rule against this event; MQTT 5 does not list the others for a message."""

    def puback(message: Packet) -> int:
        return code if b"forbidden" in message.payload else 0

    with stand_in_broker(puback=puback) as broker, room(broker.url, log) as box:
        box.wait_online()
        (forbidden,) = box.say(1, label="forbidden")
        others = box.say(3)
        eventually(lambda: sorted(broker.ids("event") + broker.ids("replay")) == others, "the others arrive")
        box.wait_stored(1)
        assert box.stored_ids() == [forbidden]


def test_events_that_nobody_subscribes_to_are_shown_and_can_be_kept(brokers: Brokers, log: Path) -> None:
    broker = brokers.start()
    with room(broker.url, log) as box:
        box.wait_online()
        box.say(2)
        box.wait_published(2)
        assert box.counter("events_unheard") == 2
        assert box.gauge("unheard") == (
            "Nobody subscribes to edge/porch/event. Events are not kept for later (mqtt.wait_for_subscriber); "
            "Home Assistant needs edge/porch/prediction only."
        )
    with room(broker.url, log, run=2, wait_for_subscriber=True) as box:
        box.wait_online()
        box.say(3)
        box.wait_stored(3)
        assert box.counter("events_published") == 0
        both = "Nobody subscribes to edge/porch/event or edge/porch/replay. Events are kept until somebody does"
        eventually(lambda: (box.gauge("unheard") or "").startswith(both), "both topics")
        subscriber = brokers.subscribe(broker)
        eventually(lambda: box.gauge("log_depth") == 0, "everything arrives")
        box.say(1)
        eventually(lambda: len(subscriber.ids("event") + subscriber.ids("replay")) == 4, "live again")
        account(box.made, subscriber, log)
        assert box.gauge("unheard") == ""


@pytest.mark.parametrize(
    ("code", "words", "first_wait_s"),
    [
        (0x88, "Server unavailable", 4.0),
        (0x89, "Server busy", 4.0),
        (0x9F, "raise the broker's limit", 4.0),
        (0x85, "set mqtt.client_id", 60.0),
        (0x8A, "lift the ban", 60.0),
        (0x9D, "set mqtt.url to the broker that it names", 60.0),
    ],
)
def test_each_refusal_of_a_connection_has_its_own_advice(log: Path, code: int, words: str, first_wait_s: float) -> None:
    with stand_in_broker(connack=[code] * 2) as broker, room(broker.url, log) as box:
        eventually(lambda: words in (box.gauge("broker_error") or ""), "the sentence")
        assert "password" not in box.gauge("broker_error")
        box.wait_online()


def test_a_limit_of_the_packet_size_that_is_not_stated_is_learned(log: Path) -> None:
    def puback(message: Packet) -> int:
        return CLOSE if len(message.payload) > 700 else 0

    with stand_in_broker(puback=puback, disconnect=0x95) as broker, room(broker.url, log) as box:
        box.wait_online()
        box.say(2)
        (large,) = box.say(1, label="x" * 700)
        box.say(2)
        eventually(lambda: len(set(broker.ids("event") + broker.ids("replay"))) == 4, "the others arrive")
        eventually(lambda: box.counter("events_refused") == 1, "the large one is found")
        box.wait_stored(1)
        assert box.stored_ids() == [large]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0x96, "raise the broker's limit"),
        (0x98, "administrator"),
        (0x8D, "keepalive_s"),
        (0xA0, "Maximum connect time"),
    ],
)
def test_an_end_with_a_reason_is_not_called_another_client(
    log: Path, caplog: pytest.LogCaptureFixture, code: int, words: str
) -> None:
    ends = [CLOSE] * 4

    def puback(message: Packet) -> int:
        return ends.pop() if ends and message.topic.endswith("/status") else 0

    with stand_in_broker(puback=puback, disconnect=code) as broker, room(broker.url, log) as box:
        eventually(lambda: not ends and box.gauge("broker") == "online", "online after four ends")
        box.say(1)
        eventually(lambda: box.counter("events_published") == 1, "live again")
    assert lines(caplog, words)
    assert not lines(caplog, "nother client")


def test_a_refused_subscription_is_told_with_its_reason_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_requests, "SUBSCRIBE_AGAIN_S", 0.2)
    with stand_in_broker(suback=[0x97, 0xA2]) as broker, box(broker, tmp_path):
        eventually(lambda: lines(caplog, "grants the subscriptions again"), "the third attempt")
    quota, wildcards = lines(caplog, "so requests do not arrive")
    assert "a queue of the broker may be full" in quota
    assert "let it take subscriptions with +" in wildcards


def test_a_keep_alive_that_the_broker_states_is_obeyed(tmp_path: Path) -> None:
    """paho before 2.2 does not, and the broker ends the requests' connection, on which nothing is sent for hours."""
    with stand_in_broker(ServerKeepAlive=1) as broker, box(broker, tmp_path):
        eventually(lambda: broker.pings >= 4, "pings")
        assert len(broker.client_ids) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"\x20\x03\x00\x42\x00",  # a reason code that does not exist
        b"\x20\x05\x00\x00\x02\x7f\x01",  # a property that does not exist
        b"\x20\x00",
        b"\xff" * 6,
        b"HTTP/1.1 400 Bad Request\r\nServer: nginx/1.22.1\r\nContent-Type: text/html\r\nContent-Length: 157\r\n\r\n",
    ],
)
def test_what_is_not_mqtt_is_a_sentence_and_is_tried_again(
    log: Path, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with stand_in_broker(answer=answer) as broker, room(broker.url, log) as box:
        eventually(lambda: broker.connects >= 3, "a second attempt with both versions")
        assert "is not MQTT 3.1.1; check mqtt.url, its port and mqtt.version" in box.gauge("broker_error")
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("answer", [b"\x20\x02\x00\x00", b"\x20\x02\x00\x02"])
def test_a_broker_that_answers_mqtt_5_as_if_it_were_3_1_1_is_used_with_3_1_1(log: Path, answer: bytes) -> None:
    """Small brokers do not look at the version: accepted, or refused with a code of 3.1.1."""
    with stand_in_broker(level=4, answer=answer) as broker:
        with room(broker.url, log) as box:
            box.wait_online()
            box.say(2)
            box.wait_published(2)
            assert "does not speak MQTT 5" in box.gauge("broker_limits")
        with connected(MqttSettings(url=broker.url), "doctor") as client:
            assert client.version == "3.1.1"


def test_a_broker_that_refused_mqtt_5_once_is_tried_with_it_again(log: Path) -> None:
    """The fallback to 3.1.1 counts for one connection: a broker may be updated while the box runs for months."""
    with stand_in_broker(connack=[0x84]) as broker, room(broker.url, log) as box:
        box.wait_online()
        assert broker.connects == 3
        assert not box.gauge("broker_limits")


def test_a_broker_that_closes_the_connection_of_mqtt_5_is_a_sentence_that_names_the_version(log: Path) -> None:
    """RabbitMQ 3.10 of Debian bookworm does."""
    with stand_in_broker(answer=HANG_UP) as broker, room(broker.url, log) as box:
        eventually(lambda: 'needs mqtt.version = "3.1.1"' in (box.gauge("broker_error") or ""), "the sentence")
