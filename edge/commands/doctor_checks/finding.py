"""`Finding`, the result of every check, and queries to systemd and other programs."""

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
    """The result of one check; both texts are shown to the user."""

    check: str
    severity: Severity
    sentence: str
    remedy: str = ""


def our_command(installed: Path = COMMAND) -> str:
    """The command that runs this program again: the installed one through sudo, another by its path."""
    own = Path(sys.prefix, "bin", UNIT)
    return f"sudo {UNIT}" if installed.resolve() == own.resolve() else str(own)


def unit_property(name: str) -> str:
    """A property of the service; "" without systemd."""
    return output_of("systemctl", "show", "-P", name, UNIT)


def service_runs() -> bool:
    """Whether the daemon runs as a service, and therefore uses the camera."""
    return unit_property("ActiveState") == "active"


def output_of(*command: str) -> str:
    """A program's standard output; "" if it is missing, fails or takes longer than `WITHIN_S`."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
