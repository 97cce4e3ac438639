"""Runs install.sh and its functions, and provides programs for them to call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
TRIXIE = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_CODENAME=trixie\n'
PI = "Raspberry Pi 4 Model B Rev 1.4\0"


def install(directory: Path, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run install.sh in a directory, with this Python and without a terminal."""
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
    """Write an executable script that stands in for a program of another machine."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(script, encoding="utf-8")
    file.chmod(0o755)
    return file


class Board:
    """The files that identify a machine, and stand-ins for the programs that list its packages."""

    def __init__(self, directory: Path, os_release: str, model: str = "") -> None:
        self.root = directory / "root"
        self.bin = directory / "bin"
        self.site = directory / "site"
        (self.root / "etc").mkdir(parents=True)
        (self.root / "etc" / "os-release").write_text(os_release)
        (self.root / "proc" / "device-tree").mkdir(parents=True)
        (self.root / "proc" / "device-tree" / "model").write_text(model)
        (self.root / "var" / "lib" / "dpkg").mkdir(parents=True)
        self.is_built_for("arm64")
        program(self.bin / "dpkg-query", "#!/bin/sh\nexit 1\n")
        program(self.bin / "apt-cache", "#!/bin/sh\nexit 100\n")

    def is_built_for(self, architecture: str) -> None:
        """Write the architecture into dpkg's files, where the installer looks for it with --root."""
        (self.root / "var" / "lib" / "dpkg" / "status").write_text(
            f"Package: dpkg\nStatus: install ok installed\nArchitecture: {architecture}\n\n"
        )

    def offers(self, package: str) -> None:
        """Make apt offer a package."""
        program(self.bin / "apt-cache", f'#!/bin/sh\n[ "$2" = {package} ]\n')

    def module(self, name: str, text: str) -> None:
        """Add a module to the machine's Python."""
        (self.site / name).mkdir(parents=True, exist_ok=True)
        (self.site / name / "__init__.py").write_text(text)
        (self.site / f"{name}-2.8.0.dist-info").mkdir(exist_ok=True)
        (self.site / f"{name}-2.8.0.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 2.8.0\n")

    def plan(self, *options: str) -> subprocess.CompletedProcess[str]:
        """The plan that `--dry-run` prints for this machine."""
        path = f"{self.bin}:{os.environ['PATH']}"
        return install(CHECKOUT, "--dry-run", "--root", self.root, *options, PATH=path, PYTHONPATH=str(self.site))

    def stage(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run functions of the installer."""
        script = (
            "for stage in packages model release; do . scripts/install/$stage.sh; done;"
            f" stack=jetson torch_from=pypi; host={self.root}; {command}"
        )
        return subprocess.run(
            ["bash", "-euc", script],
            cwd=CHECKOUT,
            env=os.environ | {"PYTHONPATH": str(self.site)} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
