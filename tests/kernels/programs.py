"""Builds the programs of this folder with the kernels, for this machine or for ARM64, and runs trunks with them."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edge.kernels import library

HERE = Path(__file__).parent
# The library's own, without those for the linker, so that what is tested is the code that is shipped.
FLAGS = (*(flag for flag in library.FLAGS if flag not in ("-shared", "-s")), "-Wall", "-Wextra", "-Werror")
# EDGE_TRUNK_... in trunk.h
AUTO, PLAIN, DIRECT, WINOGRAD_LOADED, WINOGRAD_IN_USE, DOTS = range(6)
OK, DAMAGED, UNSUPPORTED, NO_MEMORY, BAD_CALL = range(5)


def build(program: str, folder: Path, compiler: str = "cc", *flags: str) -> Path:
    """The program `program`.c, linked with all kernels."""
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    files = [HERE / f"{program}.c", *library.sources()]
    output = folder / program
    command = [compiler, *FLAGS, *flags, "-I", library.SOURCES, "-o", output, *files, "-lm", "-lpthread"]
    subprocess.run([str(part) for part in command], check=True)
    return output


@dataclass(frozen=True)
class Drive:
    """drive.c, on this machine or on an emulated processor."""

    program: Path
    folder: Path
    prefix: tuple[str, ...] = ()

    def on(self, cpu: str, *options: str, before: tuple[str, ...] = ()) -> Drive:
        """The same on an emulated processor."""
        return dataclasses.replace(self, prefix=(*before, "qemu-aarch64", "-cpu", cpu, *options))

    def check_crowd(self) -> None:
        """Run crowd.c on the files `data` and `pixels` of the folder."""
        self._check("data", "pixels", str(AUTO))

    def check_hostile(self, rounds: int) -> None:
        """Run hostile.c on the file `data` of the folder."""
        self._check("data", str(rounds))

    def _check(self, *arguments: str) -> None:
        done = subprocess.run(
            [*self.prefix, str(self.program), *arguments],
            cwd=self.folder,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        print(done.stdout)
        assert done.returncode == 0, done.stdout[-4000:]

    def outcome(
        self, data: bytes, pictures: np.ndarray, method: int = AUTO, threads: int = 1
    ) -> tuple[int, str, bytes]:
        """Exit code, printed sentence, and all values of all pictures."""
        (self.folder / "data").write_bytes(data)
        (self.folder / "pixels").write_bytes(pictures.tobytes())
        out = self.folder / "out"
        out.unlink(missing_ok=True)
        files = [str(self.folder / "data"), str(self.folder / "pixels"), str(method), str(threads), str(out)]
        done = subprocess.run(
            [*self.prefix, str(self.program), *files], check=False, stdout=subprocess.PIPE, text=True, timeout=600
        )
        return done.returncode, done.stdout.strip(), out.read_bytes() if out.exists() else b""

    def values(self, data: bytes, pictures: np.ndarray, method: int = AUTO, threads: int = 1) -> np.ndarray:
        """What every operation gave, as bytes."""
        code, sentence, values = self.outcome(data, pictures, method, threads)
        assert code == OK, sentence
        assert values
        return np.frombuffer(values, np.uint8)


def noise(side: int, count: int = 2, seed: int = 0) -> np.ndarray:
    """Random pictures, (count, side, side, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
