"""doctor tells of each thing how it is, in one line, and what to do about it."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.commands import doctor_checks
from edge.settings import FallbackSettings, ModelSettings, MqttSettings, Settings
from tests.broker import Brokers, free_port

CHECKOUT = Path(__file__).parents[1]


def test_a_broker_that_takes_us_is_well(brokers: Brokers) -> None:
    broker = brokers.start()
    seen = brokers.subscribe(broker, "edge/porch/#")
    finding = doctor_checks.broker(MqttSettings(url=broker.url), "porch")
    assert finding.severity == "ok", finding
    # Nothing that a program would take for an event, and nothing that stays.
    assert all(m.topic == "edge/porch/doctor" and not m.payload for m in seen.received)


def test_a_broker_that_is_not_there_is_told_with_its_address() -> None:
    port = free_port()
    finding = doctor_checks.broker(MqttSettings(url=f"mqtt://127.0.0.1:{port}"), "porch")
    assert finding.severity == "warning"
    assert f"127.0.0.1:{port}" in finding.sentence


def test_an_access_list_without_our_topics_is_found(brokers: Brokers, tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic write elsewhere/#\n")
    acl.chmod(0o600)
    broker = brokers.start(f"acl_file {acl}")
    finding = doctor_checks.broker(MqttSettings(url=broker.url), "porch")
    assert finding.severity == "warning"
    assert "edge/porch/#" in finding.remedy


def test_a_supply_that_sags_is_seen(tmp_path: Path) -> None:
    firmware = tmp_path / "sys/devices/platform/soc/soc:firmware"
    firmware.mkdir(parents=True)
    (firmware / "get_throttled").write_text("50005\n")
    finding = doctor_checks.power(tmp_path)
    assert finding.severity == "warning"
    assert "supply" in finding.remedy


def test_a_board_without_sensors_is_no_fault(tmp_path: Path) -> None:
    assert doctor_checks.power(tmp_path).severity == "ok"


def test_a_disk_smaller_than_the_log_may_grow_is_told(tmp_path: Path) -> None:
    settings = Settings(fallback=FallbackSettings(path=tmp_path / "not" / "yet" / "log.db", max_bytes=2**60))
    finding = doctor_checks.disk(settings)
    assert finding.severity == "warning"
    assert "fallback.max_bytes" in finding.remedy


def test_torch_is_imported_in_a_process_of_its_own_and_its_version_told() -> None:
    finding = doctor_checks.torch()
    assert finding.severity == "ok", finding
    assert finding.sentence.startswith("torch 2.")


def test_a_missing_bundle_is_a_failure_in_one_sentence(tmp_path: Path) -> None:
    settings = Settings(model=ModelSettings(bundle=tmp_path / "nothing"))
    finding = doctor_checks.model(settings)
    assert finding.severity == "failure"
    assert "export" in finding.sentence


def test_a_bundle_is_judged_by_its_golden_photo(bundle_dir: Path) -> None:
    finding = doctor_checks.model(Settings(model=ModelSettings(bundle=bundle_dir)))
    assert finding.severity == "ok", finding
    assert bundle_dir.name in finding.sentence


@pytest.mark.parametrize("as_json", [False, True])
def test_the_exit_code_follows_the_gravest_finding(tmp_path: Path, as_json: bool) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[model]\nbundle = "{tmp_path}/nothing"\n[mqtt]\nurl = "mqtt://127.0.0.1:{free_port()}"\n')
    told = subprocess.run(
        [sys.executable, "-m", "edge", "doctor", "--config", str(config), *(["--json"] if as_json else [])],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 69, told.stderr
    assert told.stderr == ""
    if as_json:
        findings = json.loads(told.stdout)["findings"]
        fields = {field.name for field in dataclasses.fields(doctor_checks.Finding)}
        assert all(set(finding) == fields for finding in findings)
        assert [finding["check"] for finding in findings] == [
            *("userland", "torch", "model", "camera", "broker", "clock", "power", "disk", "service"),
        ]
    else:
        assert any(line.startswith("FAIL  model") for line in told.stdout.splitlines())
