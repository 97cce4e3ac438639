"""Runs install.sh and its parts, and puts programs in place that they call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]


def install(directory: Path, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run install.sh of a directory with this Python and without a terminal."""
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
    """Write an executable script, such as one that stands in for a program of another machine."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(script, encoding="utf-8")
    file.chmod(0o755)
    return file
