"""Tests `sudo ./install.sh` with weights in the checkout, then use, upgrade, rollback and removal, in this order."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.boot.machine import PATIENCE, Box, booted, step

pytestmark = pytest.mark.timeout(300 * PATIENCE)

# Where an install may leave files. Elsewhere the scripts of Debian's packages make links, folders and accounts.
OURS = "^/(opt|srv|usr/local/bin|etc/mosquitto)/|edge"


def files(box: Box) -> set[str]:
    """Every path that may be the installer's and belongs to no package, without the bytecode beside packages' files."""
    listed = box.run(
        "sort -u /var/lib/dpkg/info/*.list > /tmp/packaged;"
        " find / -xdev -printf '%p\\n' | sort | comm -23 - /tmp/packaged"
        f" | grep -vE '^(/home/pi|/tmp|/var/log/journal)/|/__pycache__/' | grep -E '{OURS}'",
        user="root",
        check=False,
    )
    return set(listed.splitlines())


@pytest.fixture(scope="module")
def box(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with booted(photos, tmp_path_factory.mktemp("box"), os.environ.get("BOX_LAYER", "")) as started:
        yield started


@pytest.fixture(scope="module")
def weights() -> Path:
    return Path(os.environ["EDGE_CLASSIFIER_TESTDATA"], "weights", "resnet18-pqf.pth")


@pytest.fixture(scope="module")
def before(box: Box, weights: Path) -> set[str]:
    box.do("put", str(weights))
    box.run("mv resnet18-pqf.pth edge-classifier/weights/ && sudo cp -r photos /srv/")
    return files(box)


@pytest.fixture(scope="module")
def installed(box: Box, before: set[str]) -> str:
    """The installer's output."""
    assert "/srv/photos" in before
    with step("sudo ./install.sh") as saw:
        output = box.run("cd edge-classifier && sudo ./install.sh --yes --device box --source file:/srv/photos")
        print(output)
        saw(next(line for line in output.splitlines() if line.startswith("edge-classifier runs:")))
    return output


def test_1_the_service_runs_and_the_last_screen_says_what_to_do_next(box: Box, installed: str) -> None:
    assert "edge-classifier runs: camera online, broker online" in installed
    assert "Something is missing" not in installed
    assert "sudo ./install.sh --rollback" in installed
    assert box.show("ActiveState") in ("active", "activating")
    assert box.crashes() == 0


def test_2_its_first_events_arrive_at_mosquitto(box: Box, installed: str) -> None:
    assert installed
    if Box.machine == "amd64-avx2":  # or VNNI was not hidden
        assert box.run("grep -c '\"small_pairs\": true' /var/lib/edge-classifier/models/current/bundle.json") == "1\n"
    with step("the first events") as saw:
        events = [*box.hears("prediction"), *box.hears("event", count=2)]
        assert len(events) == 3
        assert {event["model"].split("-")[0] for event in events} == {"resnet18"}
        saw(", ".join(f"{event['top'][0]['label']} {event['top'][0]['confidence']} %" for event in events))


def test_3_it_says_of_four_photos_what_this_machine_says(
    box: Box, installed: str, weights: Path, here: Callable[..., list[int]]
) -> None:
    assert installed
    with step("classify, four photos") as saw:
        there = box.classify("edge-classifier classify")
        assert there == here("--weights", str(weights))
        saw(f"classes {there}, as on this machine")


def test_4_doctor_finds_nothing_that_keeps_it_from_running(box: Box, installed: str) -> None:
    assert installed
    with step("doctor") as saw:
        result = box.run("sudo edge-classifier doctor --json", check=False)
        findings = {finding["check"]: finding for finding in json.loads(result.splitlines()[-1])["findings"]}
        print(*findings.values(), sep="\n")
        bad = {name: finding["sentence"] for name, finding in findings.items() if finding["severity"] != "ok"}
        assert set(bad) <= {"clock", *(["service", "restarts"] if Box.machine == "arm64" else [])}, bad
        saw(f"{len(findings)} checks, warnings: {', '.join(bad.values()) or 'none'}")


def test_5_an_upgrade_is_the_same_command(box: Box, installed: str) -> None:
    assert installed
    box.run("sed -i 's/^__version__ = .*/__version__ = \"0.9.8\"/' edge-classifier/edge/__init__.py")
    with step("sudo ./install.sh, an upgrade") as saw:
        print(box.run("cd edge-classifier && sudo ./install.sh --yes"))
        assert box.run("edge-classifier --version") == "edge-classifier 0.9.8\n"
        assert box.crashes() == 0
        (event,) = box.hears("event")
        saw(f"0.9.8 runs, and says {event['label']}")


def test_6_roll_back_goes_to_the_release_before(box: Box, installed: str) -> None:
    assert installed
    with step("sudo ./install.sh --rollback") as saw:
        box.run("cd edge-classifier && sudo ./install.sh --rollback --yes")
        version = box.run("edge-classifier --version").strip()
        assert version != "edge-classifier 0.9.8"
        assert box.crashes() == 0
        assert box.hears("event")
        saw(f"{version} runs")


def test_7_uninstall_leaves_nothing_but_debians_packages(box: Box, before: set[str], installed: str) -> None:
    assert installed
    with step("sudo ./install.sh --uninstall --purge") as saw:
        output = box.run("cd edge-classifier && sudo ./install.sh --uninstall --purge --yes")
        print(output)
        removable = output.partition("sudo apt-get remove --autoremove ")[2].split()
        assert "mosquitto" in removable
        assert "python3" not in removable  # it was there before
        assert box.run("systemctl is-active mosquitto") == "active\n"
        assert box.run("getent passwd edge-classifier; getent group edge-classifier", check=False) == ""
        assert box.hears("prediction", within_s=1) == []  # retained, until --uninstall removed it from the broker
        assert sorted(files(box) - before) == []
        assert box.run("sudo grep -rls --exclude='*-' edge-classifier /etc", check=False) == ""
        saw("no file is left that is not a package's")
    box.do("keep", "packages")
