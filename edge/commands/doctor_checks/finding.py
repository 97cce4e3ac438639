"""What a check returns, and how it asks another process or systemd."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "warning", "failure"]
UNIT = "edge-classifier"
WITHIN_S = 60.0  # importing torch takes half of it on a Zero 2 W


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    severity: Severity
    sentence: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program of its own process went."""

    code: int
    output: str
    last_line: str  # of its complaint


def run_apart(program: str, *arguments: str) -> Ran:
    """Run Python in a process of its own: an illegal instruction, or a driver that blocks, ends that process alone."""
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    except subprocess.TimeoutExpired:
        return Ran(1, "", f"no answer within {WITHIN_S:.0f} s")
    if ran.returncode == -signal.SIGILL:
        return Ran(ran.returncode, "", "it dies with an illegal instruction on this processor")
    told = ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"]
    return Ran(ran.returncode, ran.stdout.strip(), told[-1])


def unit_property(name: str) -> str:
    """A property of the service; empty where there is no systemd."""
    return ask("systemctl", "show", "-P", name, UNIT)


def service_runs() -> bool:
    """Whether the daemon runs as a service, and so has the camera."""
    return unit_property("ActiveState") == "active"


def ask(*command: str) -> str:
    """What a program says; empty where there is none, or it refuses."""
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip() if told.returncode == 0 else ""
