"""Fixtures for tests/device, which skip unless scripts/test-device runs them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

LAB = Path(__file__).parent / "lab"
CHECKOUT = Path(__file__).parents[2]


class Device:
    """The machine, used from outside like an operator would, through ssh and its power switch."""

    def lab(self, *arguments: str, check: bool = True, **environment: str) -> str:
        result = subprocess.run(
            [str(LAB), *arguments],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or result.returncode == 0, f"{arguments}: {result.stdout}\n{result.stderr}"
        return result.stdout

    def ssh(self, command: str, *, check: bool = True) -> str:
        return self.lab("ssh", command, check=check)

    def put(self, source: Path, directory: str) -> None:
        self.lab("put", str(source.resolve()), directory)

    def show(self, key: str) -> str:
        """A property of the service."""
        return self.ssh(f"systemctl show -P {key} edge-classifier").strip()

    def hears(self, topic: str, *, count: int = 1, within_s: int = 60) -> list[Any]:
        """The next messages on a topic of this device, decoded if they are JSON."""
        output = self.ssh(f"mosquitto_sub -t edge/lab/{topic} -C {count} -W {within_s}", check=False)
        return [json.loads(line) if line.startswith("{") else line for line in output.splitlines()]

    def eventually(self, true: Callable[[], Any], what: str, within_s: float = 90.0) -> Any:
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            if found := true():
                return found
            time.sleep(0.5)
        journal = self.ssh("journalctl -u edge-classifier -n 30 --no-pager -o cat", check=False)
        raise AssertionError(f"not within {within_s:g} s: {what}\n{journal}")


@pytest.fixture(scope="session")
def device() -> Iterator[Device]:
    """The device, newly made and booted."""
    if "LAB_KERNEL" not in os.environ:
        pytest.skip("no device here: scripts/test-device makes one")
    machine = Device()
    machine.lab("start", FRESH="1")
    try:
        yield machine
    finally:
        machine.lab("stop", check=False)
