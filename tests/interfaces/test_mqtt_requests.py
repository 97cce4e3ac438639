"""Tests Home Assistant's discovery, requests over MQTT, and the removal of retained messages, on a real broker."""

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.delivery.holds import HOLD_S
from edge.interfaces import mqtt_requests
from edge.interfaces.home_assistant import discovery_payload
from edge.settings.schema import MqttSettings
from tests.broker import Brokers, Mosquitto, Subscriber, eventually
from tests.request_box import BASE, WAIT_S, Asker, box


@pytest.fixture
def asker(brokers: Brokers) -> Iterator[tuple[Mosquitto, Asker]]:
    broker = brokers.start()
    asking = Asker(broker)
    yield broker, asking
    asking.close()


def announced(subscriber: Subscriber, device: str = "porch") -> dict[str, Any]:
    suffix = f"device/edge-classifier-{device}/config"
    heard = eventually(lambda: [m for m in subscriber.on(suffix) if m.payload], "the device is announced")
    document: dict[str, Any] = json.loads(heard[-1].payload)
    return document


# The keys that Home Assistant's documentation requires (device discovery, MQTT sensor, binary sensor, camera).
REQUIRED = {"sensor": {"state_topic"}, "binary_sensor": {"state_topic"}, "camera": {"topic"}}
KNOWN = {
    "platform", "unique_id", "name", "icon", "state_topic", "topic", "value_template", "json_attributes_topic",
    "json_attributes_template", "expire_after", "availability", "availability_mode", "unit_of_measurement",
    "state_class", "device_class", "entity_category", "payload_on", "payload_off",
}  # fmt: skip


@pytest.mark.parametrize("snapshots", [0.0, 5.0])
def test_the_announcement_is_what_home_assistant_documents(snapshots: float) -> None:
    settings = MqttSettings(snapshot_every_s=snapshots)
    document = json.loads(discovery_payload(settings, "porch", "1.2.3", "Raspberry Pi 4", 30.0))
    assert set(document) == {"device", "origin", "qos", "components"}
    assert document["device"]["identifiers"]
    assert document["origin"]["name"]
    components = document["components"]
    assert set(components) == {"label", "confidence", "temperature", "problem", "connectivity"} | (
        {"camera"} if snapshots else set()
    )
    assert len({one["unique_id"] for one in components.values()}) == len(components)
    for one in components.values():
        assert REQUIRED[one["platform"]] <= set(one)
        assert set(one) <= KNOWN
    assert components["label"]["expire_after"] > 30
    assert components["label"]["availability_mode"] == "all"
    topics = [where["topic"] for where in components["label"]["availability"]]
    assert topics == ["edge/porch/availability", "edge/porch/camera/availability"]


def test_the_device_is_announced_at_each_connection_and_when_home_assistant_is_born(
    asker: tuple[Mosquitto, Asker], brokers: Brokers, tmp_path: Path
) -> None:
    broker, asking = asker
    subscriber = brokers.subscribe(broker, "homeassistant/#")
    subscriber.wait_subscribed()
    with box(broker, tmp_path):
        assert announced(subscriber)["device"]["sw_version"] == "1.2.3"
        asking.send("homeassistant/status", b"online")
        suffix = "device/edge-classifier-porch/config"
        eventually(lambda: len(subscriber.on(suffix)) == 2, "it is announced again")


def test_it_is_announced_anew_when_a_reload_changes_what_home_assistant_has_to_know(
    asker: tuple[Mosquitto, Asker], brokers: Brokers, tmp_path: Path
) -> None:
    broker, _ = asker
    subscriber = brokers.subscribe(broker, "homeassistant/#")
    with box(broker, tmp_path) as done:
        assert announced(subscriber)["components"]["label"]["expire_after"] == 70
        slower = discovery_payload(MqttSettings(), "porch", "1.2.3", "Raspberry Pi 4", 300.0)
        done.mqtt.announce(slower)
        eventually(lambda: announced(subscriber)["components"]["label"]["expire_after"] == 610, "it is announced anew")
        assert done.gauges["discovery_error"] == ""


def test_what_others_retain_on_the_topic_of_the_announcement_does_not_stay(
    asker: tuple[Mosquitto, Asker], brokers: Brokers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_requests, "ANNOUNCE_EVERY_S", 0.5)
    broker, asking = asker
    subscriber = brokers.subscribe(broker)
    with box(broker, tmp_path):
        before = announced(subscriber)
        asking.send("homeassistant/device/edge-classifier-porch/config", b"", retain=True)

        def is_back() -> bool:
            payloads = [message.payload for message in subscriber.on("config")]
            return b"" in payloads and json.loads(payloads[-1] or b"{}") == before

        eventually(is_back, "it is announced again")


def test_a_renamed_box_removes_everything_that_was_retained_under_its_old_name(
    asker: tuple[Mosquitto, Asker], brokers: Brokers, tmp_path: Path
) -> None:
    broker, asking = asker
    first = brokers.subscribe(broker, "#")
    first.wait_subscribed()
    with box(broker, tmp_path, "porch"):
        announced(first)
        eventually((tmp_path / "mqtt-topics.json").exists, "the topics are remembered")
    for topic in ("availability", "camera/availability", "prediction", "status"):
        asking.send(BASE + topic, b"old", retain=True)
    with box(broker, tmp_path, "garden"):
        announced(first, "garden")
        eventually(
            lambda: "garden" in (tmp_path / "mqtt-topics.json").read_text(), "the new topics are remembered", WAIT_S
        )
    late = brokers.subscribe(broker, "#")
    late.wait_subscribed()
    announced(late, "garden")
    assert late.on("porch/availability") == []
    assert late.on("prediction") == []
    assert [m for m in late.on("device/edge-classifier-porch/config") if m.payload] == []


def test_requests_are_answered_with_their_transaction(asker: tuple[Mosquitto, Asker], tmp_path: Path) -> None:
    broker, asking = asker
    with box(broker, tmp_path) as done:
        eventually((tmp_path / "mqtt-topics.json").exists, "it is connected")
        snapshot = asking.ask("snapshot", {"transaction": "t-1"})
        assert (snapshot["status"], snapshot["transaction"]) == ("ok", "t-1")
        encoded = np.frombuffer(base64.b64decode(snapshot["image"]), np.uint8)
        pixels = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        assert pixels is not None
        assert pixels.shape == (240, 640, 3)
        for document in ({}, {"image": snapshot["image"]}):
            answer = asking.ask("classify", document)
            assert answer["top"][0] == {"label": "dog", "confidence": 70.0, "index": 1}
            assert answer["model"] == "fake-int8-000000"
        assert asking.ask("reload")["status"] == "ok"
        assert done.reloads == 1
        assert asking.ask("set", {"min_confidence": 35.5, "transaction": 7})["transaction"] == 7
        assert asking.ask("set", {"fps": 5.0})["fps"] == 5
        assert done.changes == [(35.5, None), (None, 5.0)]
        used = asking.ask("use", {"name": "new-int8-000000", "transaction": "t-2"})
        assert used == {"status": "ok", "transaction": "t-2", "model": "new-int8-000000"}
        assert asking.ask("rollback")["model"] == "old-int8-000000"
        assert done.used == ["new-int8-000000", "old-int8-000000"]


def test_a_request_of_mqtt_5_is_answered_where_it_asks_to_be(asker: tuple[Mosquitto, Asker], tmp_path: Path) -> None:
    broker, asking = asker
    with box(broker, tmp_path):
        eventually((tmp_path / "mqtt-topics.json").exists, "it is connected")
        asking.send(BASE + "request/reload", ResponseTopic="my/answers", CorrelationData=b"\x00\xff")
        answer = asking.answers.get(timeout=WAIT_S)
        assert answer.topic == "my/answers"
        assert answer.properties is not None
        assert answer.properties.CorrelationData == b"\x00\xff"


@pytest.mark.parametrize(
    ("name", "payload", "message"),
    [
        ("format-disk", {}, "There is no request format-disk"),
        ("snapshot", b"not json", "not JSON"),
        ("snapshot", b"[1]", "not a JSON object"),
        ("snapshot", b"[" * 100_000, "not JSON"),
        ("set", dict.fromkeys(map(str, range(1001)), 0), "more than 1000 values"),
        ("snapshot", {"size": 5}, "size: Extra inputs are not permitted"),
        ("classify", {"image": "?"}, "not base64"),
        ("classify", {"image": "aGVsbG8="}, "not a photo"),
        ("classify", {"image": "JVBERi0xLjcK"}, "image is a PDF, which cannot be decoded here"),
        ("set", {}, "needs min_confidence or fps"),
        ("use", {}, "name: Field required"),
        ("use", {"name": 5}, "name"),
        ("use", {"name": "x" * 129}, "name"),
        ("use", {"name": "wrong-int8-000000"}, "The running model stays: It answers its golden photo wrongly"),
        ("rollback", {"name": "new-int8-000000"}, "name: Extra inputs"),
        ("set", {"min_confidence": 101}, "min_confidence"),
        ("set", {"fps": "fast"}, "fps"),
        ("set", {"fps": 1.0, "transaction": [1]}, "transaction has to be"),
        ("reload", {"transaction": "x" * 65}, "transaction has to be"),
    ],
)
def test_a_wrong_request_is_refused_with_a_sentence(
    asker: tuple[Mosquitto, Asker], tmp_path: Path, name: str, payload: object, message: str
) -> None:
    broker, asking = asker
    with box(broker, tmp_path) as done:
        eventually((tmp_path / "mqtt-topics.json").exists, "it is connected")
        answer = asking.ask(name, payload)
        assert answer["status"] == "error"
        assert message in answer["error"]
        assert (done.reloads, done.changes, done.used) == (0, [], [])


def test_what_cannot_be_done_now_is_an_error_with_the_reason(
    asker: tuple[Mosquitto, Asker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, asking = asker
    monkeypatch.setattr(mqtt_requests, "MAX_REQUEST_BYTES", 100)
    with box(broker, tmp_path) as done:
        eventually((tmp_path / "mqtt-topics.json").exists, "it is connected")
        done.camera.delivers = False
        assert "no frames" in asking.ask("snapshot")["error"]
        done.camera.delivers, done.busy = True, True
        assert "Too many photos" in asking.ask("classify")["error"]
        assert "at most 100" in asking.ask("classify", {"image": "A" * 101})["error"]


def test_a_request_with_a_name_as_long_as_a_topic_may_be_is_not_answered_and_the_next_one_is(
    asker: tuple[Mosquitto, Asker], tmp_path: Path
) -> None:
    broker, asking = asker
    with box(broker, tmp_path) as done:
        eventually((tmp_path / "mqtt-topics.json").exists, "it is connected")
        topic = BASE + "request/"
        asking.send(topic + "x" * (65535 - len(topic)))  # its response/ topic would be one byte too long
        asking.send(BASE + "request/reload", ResponseTopic="y" * 65535)  # longer than its broker may like
        assert asking.ask("reload")["status"] == "ok"
        assert done.reloads == 2


def test_a_retained_request_is_ignored(asker: tuple[Mosquitto, Asker], tmp_path: Path) -> None:
    broker, asking = asker
    asking.send(BASE + "request/reload", retain=True)
    with box(broker, tmp_path) as done:
        eventually((tmp_path / "mqtt-topics.json").exists, "it is connected")
        assert asking.ask("set", {"fps": 1.0})["status"] == "ok"
        assert done.reloads == 0


def test_pictures_go_out_only_when_they_are_wanted(
    asker: tuple[Mosquitto, Asker], brokers: Brokers, tmp_path: Path
) -> None:
    broker, _ = asker
    subscriber = brokers.subscribe(broker, BASE + "#")
    subscriber.wait_subscribed()
    with box(broker, tmp_path, snapshot_every_s=0.05):
        eventually(lambda: subscriber.on("snapshot"), "a picture is published")
    assert all(message.payload.startswith(b"\xff\xd8") for message in subscriber.on("snapshot"))
    assert not any(message.retain for message in subscriber.on("snapshot"))


def test_it_comes_back_with_the_broker(asker: tuple[Mosquitto, Asker], brokers: Brokers, tmp_path: Path) -> None:
    broker, _ = asker
    with box(broker, tmp_path) as done:
        eventually((tmp_path / "mqtt-topics.json").exists, "it is connected")
        broker.kill()
        broker.start()
        asking = Asker(broker)
        try:
            eventually(lambda: asking.send(BASE + "request/reload") or done.reloads, "it hears requests again")
        finally:
            asking.close()


def passwords(broker_file: Path, password: str) -> None:
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(broker_file), "box", password], check=True, capture_output=True)


@pytest.mark.parametrize("version", [5, "3.1.1"])
@pytest.mark.parametrize("wrong", ["wrong", None])
def test_a_wrong_or_missing_password_is_reported_once_and_can_be_corrected_without_a_restart(
    brokers: Brokers, tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: str | None, version: object
) -> None:
    caplog.set_level("INFO", logger="edge.interfaces")
    theirs, ours = tmp_path / "passwords", tmp_path / "password"
    passwords(theirs, "right")
    broker = brokers.start(f"password_file {theirs}", "allow_anonymous false")
    if wrong is not None:
        ours.write_text(wrong)
    with box(broker, tmp_path, username="box", password_file=str(ours), version=version):
        eventually(lambda: caplog.records, "it is logged")
        ours.write_text("right\n")
        eventually((tmp_path / "mqtt-topics.json").exists, "it is connected")
    first, *_, last = (record.getMessage() for record in caplog.records)
    reason = "cannot be read from" if wrong is None else "refuses us"
    assert first.startswith("Requests and Home Assistant's discovery wait: The broker")
    assert reason in first
    assert last.startswith("Requests and Home Assistant's discovery work again. (after")
    assert len(caplog.records) <= 3, "one more where our file was read while it was written"


def test_an_older_broker_is_served_too(asker: tuple[Mosquitto, Asker], tmp_path: Path) -> None:
    broker, asking = asker
    with box(broker, tmp_path, version="3.1.1"):
        eventually((tmp_path / "mqtt-topics.json").exists, "it is connected")
        assert asking.ask("reload")["status"] == "ok"


def test_a_broker_of_3_1_1_that_closes_the_connection_for_the_announcement_still_gets_requests(
    brokers: Brokers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    access = tmp_path / "acl"
    access.write_text("topic readwrite edge/#\ntopic readwrite my/answers\ntopic read homeassistant/status\n")
    broker = brokers.start(f"acl_file {access}")
    asking = Asker(broker)
    with box(broker, tmp_path, version="3.1.1") as done:
        eventually(lambda: asking.send(BASE + "request/reload") or done.reloads, "requests are heard")
    assert not [record for record in caplog.records if "seems to use" in record.getMessage()]
    asking.close()


def test_a_refused_announcement_is_logged_once_with_its_reason_and_tried_again_later(
    brokers: Brokers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    access, identity = tmp_path / "acl", tmp_path / "mqtt-topics.json"
    access.write_text("topic readwrite edge/#\ntopic readwrite my/answers\ntopic read homeassistant/status\n")
    broker = brokers.start(f"acl_file {access}")
    asking = Asker(broker)
    refusal = "The broker refuses homeassistant/device/edge-classifier-porch/config (Not authorized, 0x87)"

    def refusals() -> list[str]:
        return [record.getMessage() for record in caplog.records if refusal in record.getMessage()]

    ahead_s = 0.0
    with box(broker, tmp_path, clock=lambda: time.monotonic() + ahead_s) as done:
        eventually(refusals, "the refusal is logged with its reason")
        eventually(lambda: asking.send(BASE + "request/reload") or done.reloads, "requests are heard")
        assert not identity.exists(), "a refused announcement does not count as made"
        assert "does not appear in Home Assistant" in done.gauges["discovery_error"]
        access.write_text("topic readwrite #\n")
        broker.reload()
        eventually(lambda: "Reloading config" in broker.log.read_text(), "the broker has the new access list")
        ahead_s = HOLD_S
        eventually(identity.exists, "it is announced once the broker lets it")
        assert done.gauges["discovery_error"] == ""
    assert len(refusals()) == 1
    assert not [record for record in caplog.records if "seems to use" in record.getMessage()]
    asking.close()


@pytest.mark.parametrize(
    "topic",
    [
        *(BASE + name for name in ("event", "replay", "prediction", "status", "availability", "request/reload", "")),
        "homeassistant/device/edge-classifier-porch/config",
        "homeassistant/status",
        "$share/g/t",
        "$SYS/broker",
        "my/answers\u2028ERROR The camera was stolen",
    ],
    ids=ascii,
)
def test_an_answer_never_goes_where_it_could_be_taken_for_another_message(
    asker: tuple[Mosquitto, Asker], tmp_path: Path, caplog: pytest.LogCaptureFixture, topic: str
) -> None:
    broker, asking = asker
    with box(broker, tmp_path) as done:
        eventually((tmp_path / "mqtt-topics.json").exists, "it is connected")
        asking.send(BASE + "request/reload", {"transaction": "t"}, ResponseTopic=topic)
        message = asking.answers.get(timeout=WAIT_S)
        assert message.topic == BASE + "response/reload"
        answer = json.loads(message.payload)
        assert (answer["status"], answer["transaction"]) == ("error", "t")
        assert answer["error"].startswith("The box does not answer on ")
        assert answer["error"].isprintable()
        assert done.reloads == 0
        asking.send(BASE + "request/reload", ResponseTopic=BASE + "response/mine")
        assert asking.answers.get(timeout=WAIT_S).topic == BASE + "response/mine"
        assert done.reloads == 1
    assert caplog.records == []


def test_the_log_has_a_refused_topic_of_an_answer_in_a_short_line(
    brokers: Brokers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    access = tmp_path / "acl"
    access.write_text("topic readwrite edge/#\ntopic readwrite homeassistant/#\ntopic write my/answers\n")
    broker = brokers.start(f"acl_file {access}")
    asking = Asker(broker)
    with box(broker, tmp_path):
        eventually((tmp_path / "mqtt-topics.json").exists, "it is connected")
        asking.send(BASE + "request/reload", ResponseTopic="other/" + "y" * 60_000)
        lines = eventually(
            lambda: [record.getMessage() for record in caplog.records if "other/yyy" in record.getMessage()],
            "the refusal is logged",
        )
    asking.close()
    assert all(len(line) < 500 for line in lines)
