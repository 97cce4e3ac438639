"""From nothing to the first label, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from edge.board.child_process import EDGE, fresh_python
from edge.errors import BundleError


def first_label_s(bundle: Path, photo: Path, threads: int) -> float:
    """Seconds from the start of `edge-classifier classify` to its first line, read from a warm disk cache."""
    settings = {"EDGE_CLASSIFIER_MODEL_THREADS": str(threads)}
    command = fresh_python(EDGE, "classify", "--json", "--model", str(bundle), str(photo))
    return seconds_to_first_line(command, settings)


def import_torch_s() -> float:
    """Seconds from the start of Python to the end of `import torch` alone, which no label can undercut."""
    return seconds_to_first_line(fresh_python("import torch; print(torch.__version__, flush=True)"), {})


def seconds_to_first_line(command: list[str], settings: dict[str, str]) -> float:
    """Run `command` until it prints a line.

    Raises:
        BundleError: it ended without one.
    """
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | settings,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - began
        if line:
            return seconds
        said = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
    raise BundleError(f"A fresh process gave no label ({said[-1] if said else 'it said nothing'}); run it by hand.")
