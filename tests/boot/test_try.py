"""Tests the README's first command as a user who is not root, in a clone in which nothing is installed yet."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.boot.machine import PATIENCE, Box, booted, step

pytestmark = pytest.mark.timeout(300 * PATIENCE)

TRY = "cd edge-classifier && ./install.sh --try --count 4 2>&1"
EVENT = re.compile(r"^\d\d:\d\d:\d\d .*%\s+(.*?)\s+[\d.]+ ms$", re.MULTILINE)


@pytest.fixture(scope="module")
def box(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with booted(photos, tmp_path_factory.mktemp("box")) as started:
        started.run("echo 0.0.0.0 download.pytorch.org >> /etc/hosts", user="root")
        yield started


def files(box: Box) -> set[str]:
    """The files of user pi in the clone, in ~/.cache and in /tmp, without bytecode and pip's cache."""
    found = box.run("find edge-classifier .cache /tmp -user pi 2>/dev/null", check=False).splitlines()
    return {path for path in found if "__pycache__" not in path and not path.startswith(".cache/pip/")}


@pytest.fixture(scope="module")
def cloned(box: Box) -> set[str]:
    return files(box)


def test_1_without_pythons_venv_it_names_the_package(box: Box, cloned: set[str]) -> None:
    assert cloned
    output = box.run(TRY, check=False)
    print(output)
    named = re.search(r"run: sudo (apt-get install python3[\w.]*-venv)", output)
    assert named, output
    box.run("sudo apt-get update -qq")
    box.run(f"sudo DEBIAN_FRONTEND=noninteractive {named[1].replace('install', 'install -y --no-install-recommends')}")


def test_2_four_events_are_shown(box: Box) -> None:
    with step("./install.sh --try --count 4") as saw:
        output = box.run(TRY)
        print(output)
        assert len(EVENT.findall(output)) == 4
        saw(", ".join(EVENT.findall(output)))


def test_3_again_it_starts_at_once(box: Box) -> None:
    with step("the same again") as saw:
        assert len(EVENT.findall(box.run(TRY))) == 4
        saw("four events")


def test_4_the_clone_says_of_four_photos_what_this_machine_says(box: Box, here: Callable[..., list[int]]) -> None:
    with step("classify, four photos, in the clone") as saw:
        there = box.classify("edge-classifier/.venv/bin/edge-classifier classify")
        assert there == here("--arch", "efficientnet_lite0")
        saw(f"classes {there}, as on this machine")


def test_5_nothing_is_left_behind_but_the_clones_venv(box: Box, cloned: set[str]) -> None:
    running = set(box.run("ps -u pi -o comm=", check=False).split())
    assert not running & {"edge-classifier", "mosquitto", "amqtt", "python", "python3"}
    box.run("rm -rf edge-classifier/.venv")
    assert files(box) - cloned == set()
