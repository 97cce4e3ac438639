"""Frames a second of the whole pipeline, compared with the model alone and with frames from memory."""

from __future__ import annotations

import itertools
import queue
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from edge.camera.capture import STAGE, Capture
from edge.daemon.event_maker import EventMaker
from edge.daemon.pipeline import FrameSource, Pipeline
from edge.decision.decider import Decider
from edge.errors import CameraError
from edge.events import Event
from edge.frames import Frame, Pixels
from edge.settings.schema import CameraSettings
from edge.status.snapshot import Status
from edge.vision.classifier import Classifier
from edge.workshop.bench.publish import Publisher
from edge.workshop.bench.stages import EVERY_FRAME

ROUNDS = 4  # of each, interleaved: whatever else the board does meets both alike
STOP_S = 30.0
STUCK_S = 30.0  # far longer than any call into a camera takes on a board that is busy with this


@dataclass(frozen=True)
class Sustained:
    """Medians over the rounds; a percentage is the median of the rounds' ratios to the model alone."""

    model_fps: float
    from_memory_fps: float  # the pipeline, whose frames lie in memory
    from_memory_percent: float
    fps: float  # the same, and the thread "capture" with all that it does
    percent: float
    captured_fps: float  # what the camera gave meanwhile; of a file, what was asked of it


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
    classifier: Classifier,
    camera: CameraSettings,
    frames: Sequence[Pixels],
    maker: EventMaker,
    publisher: Publisher,
    seconds: float,
) -> Sustained:
    """Interleave ROUNDS of the model alone, of the pipeline and of the pipeline with its camera, within `seconds`.

    Args:
        camera: is opened for each of its rounds, so that it disturbs no other.
        frames: some of its pictures, for the rounds without it.

    Raises:
        CameraError: it gives no pictures.
    """
    share = seconds / ROUNDS / 3
    alone, memory, whole = [], [], []
    for _ in range(ROUNDS):
        alone.append(model_fps(classifier, frames, share))
        memory.append(pipeline_fps(FramesInMemory(frames), Status(), classifier, maker, publisher, share)[0])
        whole.append(camera_fps(camera, classifier, maker, publisher, share))

    def percent(rates: Sequence[float]) -> float:
        return 100 * statistics.median(mine / model for mine, model in zip(rates, alone, strict=True))

    rates = [classified for classified, _ in whole]
    return Sustained(
        model_fps=statistics.median(alone),
        from_memory_fps=statistics.median(memory),
        from_memory_percent=percent(memory),
        fps=statistics.median(rates),
        percent=percent(rates),
        captured_fps=statistics.median(captured for _, captured in whole),
    )


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


def camera_fps(
    camera: CameraSettings, classifier: Classifier, maker: EventMaker, publisher: Publisher, seconds: float
) -> tuple[float, float]:
    """`pipeline_fps` of the daemon's own capture thread.

    Raises:
        CameraError: the camera fails, or does not let go.
    """
    status = Status()
    capture = Capture(camera, status)
    capture.start()
    try:
        rates = pipeline_fps(capture, status, classifier, maker, publisher, seconds)
    finally:
        let_go = capture.stop(STOP_S)
    if not let_go:
        raise CameraError(f"{camera.source} does not let go; check the camera, and run again.")
    return rates


def pipeline_fps(
    frames: FrameSource,
    status: Status,
    classifier: Classifier,
    maker: EventMaker,
    publisher: Publisher,
    seconds: float,
) -> tuple[float, float]:
    """Frames a second that the daemon's own pipeline classified, each of them published, and that were captured."""
    decider = Decider(EVERY_FRAME, classifier.labels)

    def counted() -> tuple[int, int]:
        """How many were classified and captured, as long as nothing has failed."""
        if pipeline.failure is not None:
            raise pipeline.failure
        now = status.snapshot()
        if said := now.gauges.get("camera_error"):
            raise CameraError(said)
        if pipeline.ended.is_set():
            raise CameraError(f"{now.gauges['camera_source']} has ended; choose a source that goes on.")
        if status.overdue().get(STAGE, 0.0) > STUCK_S:
            raise CameraError(f"{now.gauges['camera_source']} does not answer; check the camera, and run again.")
        return now.counters.get("frames_classified", 0), now.counters.get("frames_captured", 0)

    with Delivered(publisher) as delivery:
        pipeline = Pipeline(frames, classifier, decider, maker, delivery.put, status)
        pipeline.start()
        try:
            # The first frames find the threads still waking up.
            while counted()[0] < 3:
                time.sleep(0.001)
            first, began = counted(), time.perf_counter()
            while time.perf_counter() - began < seconds or counted()[0] < first[0] + 3:
                time.sleep(min(0.05, seconds / 10))
            last, passed = counted(), time.perf_counter() - began
        finally:
            pipeline.stop(STOP_S)
    return (last[0] - first[0]) / passed, (last[1] - first[1]) / passed
