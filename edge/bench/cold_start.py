"""From nothing to the first label, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from edge.errors import BundleError


def first_label_s(bundle: Path, photo: Path, threads: int) -> float:
    """Seconds from the start of `edge-classifier classify` to its first line, read from a warm disk cache."""
    settings = {"EDGE_CLASSIFIER_MODEL_THREADS": str(threads)}
    command = ["-m", "edge", "classify", "--json", "--model", str(bundle), str(photo)]
    return seconds_to_first_line(command, settings)


def import_torch_s() -> float:
    """Seconds from the start of Python to the end of `import torch` alone, which no label can undercut."""
    return seconds_to_first_line(["-c", "import torch; print(torch.__version__, flush=True)"], {})


def seconds_to_first_line(arguments: Sequence[str], settings: dict[str, str]) -> float:
    """Run this Python with `arguments` until it prints a line.

    Raises:
        BundleError: it ended without one.
    """
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | settings | {"PYTHONPATH": path},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - began
        if line:
            return seconds
        said = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
    raise BundleError(f"A fresh process gave no label ({said[-1] if said else 'it said nothing'}); run it by hand.")
