"""Measures in child processes how long a fresh start takes until the first label."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from edge.board.child_process import EDGE, fresh_python
from edge.errors import BundleError


def first_label_s(bundle: Path, photo: Path, threads: int) -> float:
    """Seconds from the start of `edge-classifier classify` to its first line; the disk cache is warm."""
    settings = {"EDGE_CLASSIFIER_MODEL_THREADS": str(threads)}
    command = fresh_python(EDGE, "classify", "--json", "--model", str(bundle), str(photo))
    return seconds_to_first_line(command, settings)


def import_torch_s() -> float:
    """Seconds from the start of Python to the end of `import torch` alone: the least that a first label can take."""
    return seconds_to_first_line(fresh_python("import torch; print(torch.__version__, flush=True)"), {})


def seconds_to_first_line(command: list[str], settings: dict[str, str]) -> float:
    """Seconds until `command` prints its first line; `settings` are added to its environment.

    Raises:
        BundleError: it ended without a line.
    """
    began = time.perf_counter()
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, env=os.environ | settings) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - began
        if line:
            return seconds
        errors = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
    reason = errors[-1] if errors else "it printed no reason"
    raise BundleError(f"A fresh process gave no label ({reason}); run it by hand.")
