"""Runs install.sh as a person would, and reads what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]


def install(directory: Path, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """install.sh of a directory, with this Python, and nobody at a terminal."""
    return subprocess.run(
        [str(directory / "install.sh"), *map(str, arguments)],
        cwd=directory,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHON": sys.executable} | environment,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def program(file: Path, script: str) -> Path:
    """A program that stands in for one which this machine lacks."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(script, encoding="utf-8")
    file.chmod(0o755)
    return file
