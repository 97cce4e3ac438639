"""Tests that the systemd unit is hardened, is ordered correctly, and names files that are installed."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNIT = SYSTEMD / "edge-classifier.service"


def values(section: str, key: str) -> list[str]:
    """Every value of a key, which a unit file may repeat."""
    found, current = [], ""
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            current = line.strip("[]")
        elif current == section and line.startswith(f"{key}="):
            found.append(line.partition("=")[2])
    return found


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_its_exposure_is_at_most_2() -> None:
    analyze = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", str(UNIT)]
    result = subprocess.run(analyze, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr


def test_it_is_ordered_after_network_time_and_broker_and_requires_none_of_them() -> None:
    assert {"network-online.target", "time-sync.target", "mosquitto.service"} <= set(values("Unit", "After")[0].split())
    assert not any(values("Unit", key) for key in ("Requires", "Wants", "BindsTo"))


def test_it_is_never_given_up() -> None:
    assert values("Unit", "StartLimitIntervalSec") == ["0"]
    assert values("Service", "Restart") == ["always"]


def test_a_decoder_that_is_ended_for_its_memory_does_not_stop_the_service() -> None:
    assert values("Service", "OOMPolicy") == ["continue"]


def test_it_can_read_whether_the_clock_is_synchronised_and_cannot_set_it() -> None:
    assert not values("Service", "ProtectClock")
    assert values("Service", "CapabilityBoundingSet") == [""]
    assert any("adjtimex" in value for value in values("Service", "SystemCallFilter"))


@pytest.mark.parametrize("drop_in", sorted((SYSTEMD / "drop-ins").glob("*.conf")), ids=lambda path: path.name)
def test_each_drop_in_adds_to_the_service_alone(drop_in: Path) -> None:
    parser = configparser.ConfigParser()
    parser.read(drop_in, encoding="utf-8")
    assert parser.sections() == ["Service"]
