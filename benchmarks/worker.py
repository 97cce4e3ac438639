"""Runs one engine: reads commands from standard input, one JSON object a line, and answers each with one."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from benchmarks.arrangements import ARRANGEMENTS, AS_THE_DAEMON
from benchmarks.engines import ENGINES, OURS, Engine, ThisProject
from edge.frames import Pixels
from edge.photos.decode import read_photo

PACKAGES = ("torch", "onnxruntime", "openvino", "ncnn", "executorch")


def main() -> None:
    """Load the engine, then execute commands until standard input ends."""
    name, models, weights, threads, photos, frames, limit = sys.argv[1:8]
    # An engine may choose another thread count, but has no other processors than these.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that what an engine prints does not mix with the answers
    pictures = [read_photo(file) for file in sorted(Path(frames).iterdir())[:20]]
    arrangement = ARRANGEMENTS.get(name, AS_THE_DAEMON)
    engine_type = ENGINES[OURS if name in ARRANGEMENTS else name]
    engine, prepared, loaded_s = arrangement.load(
        lambda: _loaded(lambda: engine_type(Path(models), Path(weights), int(threads)), pictures)
    )
    print(json.dumps({"loaded_s": loaded_s, "version": _version(name)}), file=answers, flush=True)
    serve = functools.partial(_serve, engine, prepared, pictures, Path(photos), int(limit), answers)
    if arrangement.loader == "same":
        serve()
    else:
        serving = threading.Thread(target=serve)
        serving.start()
        serving.join()


def _loaded(make: Callable[[], Engine], pictures: list[Pixels]) -> tuple[Engine, list[Any], float]:
    """The engine after its warm-up, the pictures as its inputs, and the seconds until the first answer."""
    began = time.perf_counter()
    engine = make()
    if isinstance(engine, ThisProject):
        engine.fresh = True
    prepared = [engine.prepare(picture) for picture in pictures]
    if isinstance(engine, ThisProject):
        engine.fresh = False
    engine.infer(prepared[0])
    loaded_s = time.perf_counter() - began
    for _ in range(10):
        engine.infer(prepared[0])
    return engine, prepared, loaded_s


def _serve(
    engine: Engine, prepared: list[Any], pictures: list[Pixels], photos: Path, limit: int, answers: TextIO
) -> None:
    for line in sys.stdin:
        command = json.loads(line)["do"]
        answer: dict[str, Any]
        if command == "infer":
            answer = _timed(engine.infer, prepared)
        elif command == "classify":
            answer = _timed(lambda picture: _whole(engine, picture), pictures)
        else:
            answer = {"top": _labels(engine, photos, limit), **_memory()}
        print(json.dumps(answer), file=answers, flush=True)


def _timed(function: Callable[[Any], object], inputs: list[Any]) -> dict[str, list[float]]:
    """For each input the milliseconds by the clock, and of processor time summed over all threads."""
    wall, processor = [], []
    for one in inputs:
        began, worked = time.perf_counter_ns(), time.process_time_ns()
        function(one)
        processor.append((time.process_time_ns() - worked) / 1e6)
        wall.append((time.perf_counter_ns() - began) / 1e6)
    return {"ms": wall, "cpu_ms": processor}


def _whole(engine: Engine, pixels: Pixels) -> int:
    return int(np.argmax(engine.infer(engine.prepare(pixels))))


def _labels(engine: Engine, photos: Path, limit: int) -> dict[str, int]:
    """The class of each photo, or of the first `limit` where that is not 0."""
    files = sorted(photos.glob("*.JPEG"))[: limit or None]
    return {file.name: _whole(engine, read_photo(file)) for file in files}


def _memory() -> dict[str, float]:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kibibytes = {key: int(value.split()[0]) for key, value in (line.split(":") for line in lines) if key[:2] == "Vm"}
    return {"resident_mb": kibibytes["VmRSS"] / 1024, "peak_mb": kibibytes["VmHWM"] / 1024}


def _version(name: str) -> str:
    wanted = "torch" if "orch" in name and "Exec" not in name else name.split(maxsplit=1)[0].lower()
    for package in PACKAGES:
        if package in (wanted, f"{wanted}runtime"):
            return importlib.metadata.version(package)
    return importlib.metadata.version("torch")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
