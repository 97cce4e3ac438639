"""Frames a second with every stage overlapped, beside what the model alone reaches in the same run."""

from __future__ import annotations

import itertools
import queue
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from edge.bench.publish import Publisher
from edge.bench.stages import EVERY_FRAME
from edge.decision import Decider
from edge.events import Event
from edge.frames import Frame, Pixels
from edge.pipeline import EventMaker, Pipeline
from edge.status import Status
from edge.vision.classifier import Classifier

ROUNDS = 4  # of each, interleaved: whatever else the board does meets both alike
STOP_S = 30.0


@dataclass(frozen=True)
class Sustained:
    """Medians over the rounds."""

    model_fps: float
    fps: float
    of_model_percent: float  # the median of the rounds' ratios


class FramesInMemory:
    """A camera that is never waited for: its frames lie in memory, as an ISP leaves them there."""

    live = False
    ended = False

    def __init__(self, frames: Sequence[Pixels]) -> None:
        self._frames = itertools.cycle(frames)
        self._sequence = itertools.count()

    def take(self, timeout_s: float) -> Frame | None:
        """The next one, at once."""
        return Frame(next(self._frames), time.monotonic_ns(), next(self._sequence))


class Delivered:
    """The thread "publish": what `delivery` is to the pipeline, with the benchmark's publisher."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)

    def __enter__(self) -> Delivered:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._events.put(None)
        self._thread.join(STOP_S)

    def put(self, event: Event) -> None:
        """The pipeline's sink."""
        self._events.put(event)

    def _run(self) -> None:
        while (event := self._events.get()) is not None:
            self._publisher.publish(event)


def sustained(
    classifier: Classifier, frames: Sequence[Pixels], maker: EventMaker, publisher: Publisher, seconds: float
) -> Sustained:
    """Interleave ROUNDS of the model alone and of the pipeline, within `seconds`."""
    share = seconds / ROUNDS / 2
    alone, overlapped = [], []
    for _ in range(ROUNDS):
        alone.append(model_fps(classifier, frames, share))
        overlapped.append(pipeline_fps(classifier, frames, maker, publisher, share))
    ratios = [mine / model for mine, model in zip(overlapped, alone, strict=True)]
    return Sustained(statistics.median(alone), statistics.median(overlapped), statistics.median(ratios) * 100)


def model_fps(classifier: Classifier, frames: Sequence[Pixels], seconds: float) -> float:
    """Inferences a second of buffers that were prepared before."""
    buffers = [classifier.new_input() for _ in frames]
    for frame, buffer in zip(frames, buffers, strict=True):
        classifier.prepare(frame, buffer)
    classifier.infer(buffers[0])
    began, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds or count < 3:
        classifier.infer(buffers[count % len(buffers)])
        count += 1
    return count / passed


def pipeline_fps(
    classifier: Classifier, frames: Sequence[Pixels], maker: EventMaker, publisher: Publisher, seconds: float
) -> float:
    """Frames a second through the daemon's own pipeline, each of them published."""
    status = Status()
    decider = Decider(EVERY_FRAME, classifier.labels)

    def classified() -> int:
        return status.snapshot().counters.get("frames_classified", 0)

    with Delivered(publisher) as delivery:
        pipeline = Pipeline(FramesInMemory(frames), classifier, decider, maker, delivery.put, status)
        pipeline.start()
        try:
            # The first frames find the threads still waking up.
            while classified() < 3 and pipeline.failure is None:
                time.sleep(0.001)
            first, began = classified(), time.perf_counter()
            while (time.perf_counter() - began < seconds or classified() < first + 3) and pipeline.failure is None:
                time.sleep(min(0.05, seconds / 10))
            fps = (classified() - first) / (time.perf_counter() - began)
        finally:
            pipeline.stop(STOP_S)
    if pipeline.failure is not None:
        raise pipeline.failure
    return fps
