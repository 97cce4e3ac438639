"""Tests the installer's last screen: the service's state, what is missing with its remedy, and the next steps."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.installer import CHECKOUT, program

WELL = "camera online, broker online, inference 42 ms, 3 events"
DOCTOR = """#!/bin/sh
case $1 in
    doctor)
        echo 'ok    model     resnet18 answers its golden photo.'
        echo 'WARN  broker    Nobody listens at localhost:1883.'
        echo '                → start it: sudo systemctl start mosquitto'
        echo 'ok    clock     synchronised.'
        exit 1 ;;
    config)
        cat <<END
[device]
name = "porch"
[mqtt]
url = "$URL"
base = "edge"
[web]
listen = "127.0.0.1:5000"
END
        ;;
esac
"""


@pytest.fixture
def summary(tmp_path: Path) -> Callable[..., str]:
    """The last screen for a service with a given status."""
    program(tmp_path / "edge-classifier", DOCTOR)
    bundle = tmp_path / "state" / "models" / "resnet18-int8-3fa9c1"
    bundle.mkdir(parents=True)
    (bundle / "bundle.json").write_text("{}")
    (bundle.parent / "current").symlink_to(bundle.name)
    program(tmp_path / "bin" / "systemctl", '#!/bin/sh\necho "$STATUS"\n')

    def run(status: str, url: str = "mqtt://localhost:1883") -> str:
        script = f"""
            name=edge-classifier root=/opt/$name config=/etc/$name/config.toml offline= log=/dev/null
            state={tmp_path}/state command_link={tmp_path}/edge-classifier; . scripts/install/summary.sh; summary"""
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=CHECKOUT,
            env=os.environ | {"PATH": path, "STATUS": status, "URL": url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


def test_where_all_is_well_it_says_what_comes_next_and_asks_no_doctor(summary: Callable[..., str]) -> None:
    output = summary(WELL)
    assert f"edge-classifier runs: {WELL}\n" in output
    assert "missing" not in output
    assert "mosquitto_sub -t 'edge/porch/#' -v" in output
    assert "the page       http://127.0.0.1:5000, from this machine alone" in output
    assert "the model      resnet18-int8-3fa9c1\n  how it is" in output


def test_a_network_that_stands_in_for_another_is_named(summary: Callable[..., str], tmp_path: Path) -> None:
    manifest = tmp_path / "state" / "models" / "current" / "bundle.json"
    manifest.write_text('{\n  "weights": {\n    "instead_of": "resnet18"\n  }\n}\n')
    assert "(not resnet18, whose weights could not be fetched; bring them, and:" in summary(WELL)


@pytest.mark.parametrize(
    "status",
    [
        "camera waiting, broker online, 0 events | There is no camera; plug one in.",
        "camera online, broker offline, 3 events",
        "camera online, broker online, inference 42 ms, 0 events",
        WELL + " | The broker refuses edge/porch/event; see deploy/mosquitto/acl.",
    ],
)
def test_what_is_missing_is_shown_with_doctors_remedy(summary: Callable[..., str], status: str) -> None:
    output = summary(status)
    assert "Something is missing." in output
    assert "  WARN  broker    Nobody listens at localhost:1883.\n                  → start it: sudo" in output
    assert "golden photo" not in output
    assert "clock" not in output
    assert "sudo ./install.sh --rollback" in output


def test_a_page_that_is_off_is_not_named(summary: Callable[..., str]) -> None:
    output = summary(WELL + " | The page is off because 127.0.0.1:5000 cannot be used (Address already in use).")
    assert "http://" not in output
    assert "the page       off; the first line says why" in output


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mqtt://localhost:1883", "for others, with TLS and passwords: deploy/mosquitto/tls.conf"),
        ("mqtt://broker.example:1883", "not encrypted"),
        ("mqtts://broker.example:8883", "the broker     mqtts://broker.example:8883\n  the page"),
    ],
)
def test_it_says_how_the_broker_is_opened_safely(summary: Callable[..., str], url: str, says: str) -> None:
    assert says in summary(WELL, url)
