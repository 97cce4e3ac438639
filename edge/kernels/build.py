"""Builds the kernels' library with the system's C compiler: `python -m edge.kernels.build`.

The installer, and the build of a wheel, run this on ARM64. It is never required: without the library torch's own
kernels run the model. Only the standard library is needed.

Exit codes: 0 the library is there, or this processor needs none; 69 it cannot be built, and one line says why.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from edge.kernels import library
from edge.kernels.library import FLAGS, KernelsError, Library

WITHIN_S = 600.0  # it takes seconds, on the slowest board too


def build(directory: Path | None = None) -> Path:
    """Compile the library into `directory` (None: the package) and return its path; older ones there are removed.

    Raises:
        KernelsError: there is no compiler, it fails, or the directory cannot be written.
    """
    directory = directory or library.DIRECTORY
    file = directory / library.file_name()
    try:
        with tempfile.TemporaryDirectory(dir=directory, prefix=".build-") as parts:
            made = Path(parts, file.name)
            _compile(made)
            made.chmod(0o755)
            made.replace(file)  # a daemon that runs keeps the file that it has open
        for other in directory.glob("libedge_kernels-*.so"):
            if other != file:
                other.unlink()
    except OSError as error:
        raise KernelsError(
            f"The kernels cannot be built into {directory} ({error.strerror or error}); make it writable."
        ) from error
    return file


def _compile(made: Path) -> None:
    """Compile the sources into `made`, and load it; raises KernelsError with the first error that is printed."""
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    command = [*compiler, *FLAGS, *map(str, library.sources()), "-o", str(made), "-lm"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},  # the errors in English
            timeout=WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise KernelsError(f"{compiler[0]} took more than {WITHIN_S:.0f} s to compile the kernels.") from error
    except OSError as error:
        raise KernelsError(
            f"There is no C compiler to build the kernels with ({compiler[0]}: {error.strerror}); to have them, run:"
            f" {library.how_to_build()}."
        ) from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        first = next(
            (line for line in lines if re.search(r"\berror\b|undefined reference", line, re.IGNORECASE)), lines[-1]
        )
        raise KernelsError(f"{compiler[0]} cannot compile the kernels: {first.strip()}")
    try:
        Library(made)
    except (OSError, AttributeError) as error:
        raise KernelsError(f"{compiler[0]} does not make libraries for this machine ({error}).") from error


def main() -> int:
    """Build the library where it is missing on ARM64, and print one line about it."""
    if not library.is_arm64():
        print(f"The kernels are for ARM64; {platform.machine()} needs none.")
        return 0
    try:
        if library.unavailable():
            build()
        print(f"The kernels are built: {library.open_library().instructions}.")
    except KernelsError as error:
        print(f"{error} Until then torch's own kernels run the model.")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
