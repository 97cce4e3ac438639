"""Tests doctor's checks at a real broker: access rights, and another box of the same name."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from paho.mqtt import publish

from edge.commands.doctor_checks import broker as checks
from edge.delivery.delivery import Delivery
from edge.settings.schema import FallbackSettings, MqttSettings
from edge.status.snapshot import Status
from tests.broker import Brokers, Mosquitto, eventually, free_port

OURS, THEIRS = "5f1c2e7a", "0badcafe"
Box = Callable[..., Status]


def settings_of(broker: Mosquitto) -> MqttSettings:
    return MqttSettings(url=broker.url)


def no_log(directory: Path) -> FallbackSettings:
    return FallbackSettings(path=directory / "none.db")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """Starts the delivery of a box called porch, like its daemon."""
    with ExitStack() as stack:

        def start(broker: Mosquitto, boot: str, **mqtt: object) -> Status:
            status, settings = Status(), MqttSettings.model_validate({"url": broker.url, **mqtt})
            fallback = FallbackSettings(path=tmp_path / f"{boot}.db")
            status.gauge(device="porch", boot=boot)
            delivery = Delivery(settings, fallback, "porch", boot, status)
            delivery.start()
            stack.callback(delivery.stop, 5.0)
            eventually(lambda: status.snapshot().counters.get("broker_connects"), "the box is connected")
            return status

        yield start


def test_a_broker_that_takes_us_is_well(brokers: Brokers, tmp_path: Path) -> None:
    broker = brokers.start()
    seen = brokers.subscribe(broker, "edge/porch/#")
    assert checks.broker(settings_of(broker), "porch").severity == "ok"
    finding = checks.access(settings_of(broker), "porch", no_log(tmp_path))
    assert finding.severity == "ok", finding
    # Nothing that a program could take for an event or a state, and nothing retained.
    assert all(m.topic.endswith("/doctor") and not m.payload and not m.retain for m in seen.received)


@pytest.mark.parametrize(("password", "hint"), [("secret ", "begins or ends with a space"), ("secret", "")])
def test_a_password_with_a_space_that_no_editor_shows_is_named(
    brokers: Brokers, tmp_path: Path, password: str, hint: str
) -> None:
    wrong = tmp_path / "password"
    wrong.write_text(f"{password}\n")
    settings = MqttSettings(url=brokers.start("allow_anonymous false").url, username="porch", password_file=str(wrong))
    finding = checks.broker(settings, "porch")
    assert finding.severity == "warning"
    assert hint in finding.remedy
    assert bool(hint) == bool(finding.remedy)


def test_a_broker_that_is_not_there_is_reported_with_its_address(tmp_path: Path) -> None:
    nowhere = MqttSettings(url=f"mqtt://127.0.0.1:{free_port()}")
    finding = checks.broker(nowhere, "porch")
    assert finding.severity == "warning"
    assert f"127.0.0.1:{nowhere.port}" in finding.sentence
    for other in (checks.access(nowhere, "porch", no_log(tmp_path)), checks.twin(nowhere, "porch")):
        assert other.severity == "warning"
        assert "no broker to ask" in other.sentence


@pytest.mark.parametrize("allowed", ["elsewhere/#", "edge/porch/doctor", "edge/porch/+"])
def test_an_access_list_without_our_topics_is_found(brokers: Brokers, tmp_path: Path, allowed: str) -> None:
    acl = tmp_path / "acl"
    acl.write_text(f"topic readwrite {allowed}\n")
    acl.chmod(0o600)
    broker = brokers.start(f"acl_file {acl}")
    finding = checks.access(settings_of(broker), "porch", no_log(tmp_path))
    assert finding.severity == "warning"
    assert "edge/porch/#" in finding.remedy


def test_an_access_list_of_mqtt_3_is_not_vouched_for(brokers: Brokers, tmp_path: Path) -> None:
    broker = brokers.start()
    finding = checks.access(MqttSettings(url=broker.url, version="3.1.1"), "porch", no_log(tmp_path))
    assert "not known" in finding.sentence


def test_another_box_of_our_name_is_found_by_its_boot(brokers: Brokers, box: Box) -> None:
    broker = brokers.start()
    box(broker, THEIRS)
    finding = checks.twin(settings_of(broker), "porch", boot=OURS, listen_s=60.0)
    assert finding.severity == "warning"
    assert THEIRS in finding.sentence
    assert "device.name" in finding.remedy


def test_our_own_daemon_is_no_twin_and_keeps_its_connection(brokers: Brokers, box: Box) -> None:
    broker = brokers.start()
    status = box(broker, OURS)
    finding = checks.twin(settings_of(broker), "porch", boot=OURS, listen_s=2.0, runs=lambda: False)
    assert finding.severity == "ok", finding
    assert status.snapshot().counters["broker_connects"] == 1


def test_what_is_left_of_an_earlier_boot_is_no_twin(brokers: Brokers) -> None:
    broker = brokers.start()
    payload = json.dumps({"device": "porch", "boot": THEIRS})
    publish.single("edge/porch/status", payload, qos=1, retain=True, hostname=broker.address, port=broker.port)
    finding = checks.twin(settings_of(broker), "porch", boot=OURS, listen_s=2.0)
    assert finding.severity == "ok", finding


def test_a_broker_that_hides_our_own_status_is_reported(brokers: Brokers, tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic write edge/porch/#\n")
    acl.chmod(0o600)
    broker = brokers.start(f"acl_file {acl}")
    finding = checks.twin(settings_of(broker), "porch", boot=OURS, listen_s=2.0, runs=lambda: True)
    assert finding.severity == "warning"
    assert "Not known" in finding.sentence
