"""Controls a booted Debian trixie from outside, and records what was measured on it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).parent / "box"
CHECKOUT = Path(__file__).parents[2]
# Factor on all time limits: emulation is slow, and other work may share this machine.
PATIENCE = {"arm64": 30.0}.get(os.environ.get("BOX_MACHINE", ""), 3.0)
STEPS: list[tuple[float, str, str]] = []  # seconds, what was done, what was seen


class Box:
    """The machine, used from outside like a user at its terminal."""

    machine = os.environ.get("BOX_MACHINE", "")

    def do(self, *arguments: str, check: bool = True, within_s: float | None = None) -> str:
        """Run tests/boot/box and return its output, including errors."""
        result = subprocess.run(
            [str(PROGRAM), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=within_s,
            text=True,
            check=False,
        )
        assert not check or result.returncode == 0, f"{arguments} ended with {result.returncode}: {result.stdout}"
        return result.stdout

    def run(self, command: str, *, user: str = "pi", check: bool = True) -> str:
        return self.do("run", user, command, check=check)

    def show(self, key: str) -> str:
        """A property of the service."""
        return self.run(f"systemctl show -P {key} edge-classifier").strip()

    def hears(self, topic: str, *, count: int = 1, within_s: float = 60) -> list[Any]:
        """The next messages on a topic of this box, decoded if they are JSON."""
        wait = int(within_s * PATIENCE)
        output = self.run(f"mosquitto_sub -t 'edge/box/{topic}' -C {count} -W {wait} 2>/dev/null", check=False)
        return [json.loads(line) if line.startswith("{") else line for line in output.splitlines()]

    def crashes(self) -> int:
        """How often the service crashed. Exit code 75 is not counted, because a slow emulated processor causes it."""
        output = self.run("journalctl -u edge-classifier --no-pager -o cat", user="root")
        ended = [line for line in output.splitlines() if "Main process exited" in line]
        return len([line for line in ended if "status=75" not in line])

    def classify(self, command: str) -> list[int]:
        """The best class that `edge-classifier classify` on the box gives each of the photos."""
        return classes(self.run(f"{command} --json photos/*", check=False))


def classes(lines: str) -> list[int]:
    """The best class in each JSON line of `classify`."""
    return [json.loads(line)["top"][0]["index"] for line in lines.splitlines() if line.startswith("{")]


@contextmanager
def step(what: str) -> Iterator[Callable[[str], None]]:
    """Time a step for the table at the end; call the yielded function with what to note there."""
    began, seen = time.monotonic(), ["FAILED"]
    try:
        yield lambda sentence: seen.__setitem__(0, sentence)
    finally:
        STEPS.append((time.monotonic() - began, what, seen[0]))


@contextmanager
def booted(photos: list[Path], folder: Path, layer: str = "") -> Iterator[Box]:
    """A box with this checkout, without weights, and with the photos in the home of pi."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, check=True, capture_output=True).stdout
    (folder / "edge-classifier").mkdir(parents=True)
    (folder / "photos").mkdir()
    archive = subprocess.run(
        ["tar", "-c", "--null", "--files-from=-"], cwd=CHECKOUT, check=True, input=listed, capture_output=True
    ).stdout
    subprocess.run(["tar", "-xC", str(folder / "edge-classifier")], input=archive, check=True)
    for photo in photos:
        (folder / "photos" / photo.name).write_bytes(photo.read_bytes())
    box = Box()
    try:
        with step("systemd boots") as saw:
            box.do("start", layer)
            saw(box.run("systemctl is-system-running; systemctl --version | head -n 1").replace("\n", ", ").strip(", "))
        box.do("put", str(folder / "edge-classifier"), str(folder / "photos"))
        yield box
    finally:
        box.do("stop", check=False)
