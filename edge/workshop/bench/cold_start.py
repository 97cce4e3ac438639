"""Measures in child processes how long a fresh start takes until the first label, and how fast `classify` is."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

from edge.board.child_process import EDGE, fresh_python, run_apart
from edge.errors import BundleError
from edge.vision.batch import BATCH

MOST_PHOTOS = 2000  # on one command line


def first_label_s(bundle: Path, photo: Path, threads: int) -> float:
    """Seconds from the start of `edge-classifier classify` to its first line; the disk cache is warm."""
    settings = {"EDGE_CLASSIFIER_MODEL_THREADS": str(threads)}
    command = fresh_python(EDGE, "classify", "--json", "--model", str(bundle), str(photo))
    return line_times_s(command, settings, 1)[0]


def import_library_s(engine: str) -> float:
    """Seconds that a fresh Python takes to import an engine's library: the least that a first label can take.

    Args:
        engine: one of `edge.vision.engines.ENGINES`.
    """
    program = f"import time; from edge.vision.engines.{engine} import describe; began = time.perf_counter(); "
    ran = run_apart(f"{program}describe(); print(time.perf_counter() - began)")
    if ran.code != 0:
        raise BundleError(f"The library of the engine {engine} cannot be imported ({ran.last_line}).")
    return float(ran.output)


def batch_per_s(bundle: Path, photo: Path, inference_ms: float, seconds: float) -> float:
    """Photos a second that `edge-classifier classify` reads and classifies on all processors, once it has started.

    Args:
        bundle: its directory.
        photo: classified again and again.
        inference_ms: with one thread; an estimate, for the number of photos.
        seconds: the time to fill with photos, roughly; at least two batches for each processor are timed.
    """
    at_once = BATCH * len(os.sched_getaffinity(0))  # when these are done, every processor is at work
    rounds = round(min(seconds * 1000 / (BATCH * inference_ms), MOST_PHOTOS / at_once))
    count = at_once * (1 + max(2, rounds))
    command = fresh_python(EDGE, "classify", "--json", "--model", str(bundle), *[str(photo)] * count)
    times = line_times_s(command, {}, count)
    return (count - at_once) / (times[-1] - times[at_once - 1])


def line_times_s(command: list[str], settings: dict[str, str], count: int) -> list[float]:
    """Seconds from the start of `command` to each of the first `count` lines that it prints.

    Args:
        command: the process to run; it is awaited.
        settings: added to its environment.
        count: how many lines it must print.

    Raises:
        BundleError: it ended with fewer lines.
    """
    began = time.perf_counter()
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=os.environ | settings) as process,
    ):
        assert process.stdout is not None
        times = []
        for _ in process.stdout:
            times.append(time.perf_counter() - began)
            if len(times) == count:
                return times
        errors.seek(0)
        lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    reason = lines[-1] if lines else "it printed no reason"
    raise BundleError(f"A fresh process gave no label ({reason}); run it by hand.")
