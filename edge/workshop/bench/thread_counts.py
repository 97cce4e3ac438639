"""Measures what each number of threads does for one inference: alone, and beside busy loops."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from edge.frames import Pixels
from edge.settings.schema import ModelSettings
from edge.vision.bundle import Bundle
from edge.vision.classifier import Classifier
from edge.workshop.bench.apart import apart
from edge.workshop.bench.busy_loops import busy_loops
from edge.workshop.bench.result import ThreadCount, latency

LEAST_ALONE, LEAST_BUSY = 20, 5  # measurements, however slow the board is


def thread_counts(
    bundle: Bundle, settings: ModelSettings, frames: Sequence[Pixels], seconds: float
) -> tuple[ThreadCount, ...]:
    """One inference with 1 thread to as many as there are processors; busy is one loop for each processor."""
    processors = len(os.sched_getaffinity(0))
    share = seconds / processors / 2
    found = []
    for threads in range(1, processors + 1):
        # An engine takes its number of threads when it loads a model.
        classifier = apart(Classifier, bundle, settings.model_copy(update={"threads": threads}))
        alone = apart(_times, classifier, frames, share, LEAST_ALONE)
        with busy_loops(processors):
            busy = apart(_times, classifier, frames, share, LEAST_BUSY)
        found.append(
            ThreadCount(threads=threads, p50_ms=alone[0], cpu_ms=alone[1], busy_p50_ms=busy[0], busy_cpu_ms=busy[1])
        )
    return tuple(found)


def _times(classifier: Classifier, frames: Sequence[Pixels], seconds: float, least: int) -> tuple[float, float]:
    """The median of inference, and of its processor time in all threads, in milliseconds."""
    buffer = classifier.new_input()
    wall: list[float] = []
    processor: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until or len(wall) < least:
        classifier.prepare(frames[len(wall) % len(frames)], buffer)
        began, worked = time.perf_counter_ns(), time.process_time_ns()
        classifier.infer(buffer)
        processor.append((time.process_time_ns() - worked) / 1e6)
        wall.append((time.perf_counter_ns() - began) / 1e6)
    return latency(wall, "").p50, latency(processor, "").p50
