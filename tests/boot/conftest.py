"""Fixtures and the table of results for tests/boot, which skip unless scripts/test-install runs them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.boot.machine import CHECKOUT, STEPS, Box, classes

PHOTOS = 4


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print each step, how long it took, and what was noted."""
    if STEPS:
        terminalreporter.section(f"what was seen on {Box.machine}")
        for seconds, what, seen in STEPS:
            terminalreporter.write_line(f"{seconds:6.0f} s  {what}: {seen}")


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    """Four labelled photos; skips if there is no box."""
    if not Box.machine:
        pytest.skip("no box here: scripts/test-install makes one")
    labelled = Path(os.environ["EDGE_CLASSIFIER_TESTDATA"], "photos", "labelled")
    return sorted(labelled.glob("*.JPEG"))[:PHOTOS]


@pytest.fixture(scope="session")
def here(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[int]]:
    """A function that returns the classes that this machine gives the photos, with a model from the same weights."""

    def classify(*weights: str) -> list[int]:
        models = tmp_path_factory.mktemp("models")
        edge = [os.environ["PYTHON"], "-m", "edge"]
        subprocess.run([*edge, "export", *weights, "--output", str(models)], check=True, cwd=CHECKOUT)
        command = [*edge, "classify", "--model", str(models / "current"), "--json", *map(str, photos)]
        return classes(subprocess.run(command, check=True, cwd=CHECKOUT, capture_output=True, text=True).stdout)

    return classify
