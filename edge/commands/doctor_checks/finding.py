"""What a check returns, and how it asks systemd."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.board.child_process import WITHIN_S

Severity = Literal["ok", "warning", "failure"]
UNIT = "edge-classifier"
COMMAND = Path("/usr/local/bin", UNIT)  # the installer's link to the release that runs


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    severity: Severity
    sentence: str
    remedy: str = ""


def our_command(installed: Path = COMMAND) -> str:
    """How the person at the terminal runs this program again: the service's through sudo, another by its path."""
    own = Path(sys.prefix, "bin", UNIT)
    return f"sudo {UNIT}" if installed.resolve() == own.resolve() else str(own)


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
