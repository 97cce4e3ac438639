"""Measures frames a second: the model alone, the pipeline with frames in memory, the pipeline with its camera."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

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
from edge.workshop.bench.apart import apart
from edge.workshop.bench.publish import Publisher
from edge.workshop.bench.stages import EVERY_FRAME

ROUNDS = 4  # of each measurement, interleaved, so that other work on the board disturbs all alike
STOP_S = 30.0
STUCK_S = 30.0  # far longer than a call into a camera takes on a board that is busy with the benchmark


class FramesInMemory:
    """A camera that always has a frame ready: its frames are in memory, where an ISP leaves them too."""

    live = False
    ended = False

    def __init__(self, frames: Sequence[Pixels]) -> None:
        self._frames = itertools.cycle(frames)
        self._sequence = itertools.count()

    def take(self, timeout_s: float) -> Frame | None:
        """The next frame, at once."""
        return Frame(next(self._frames), time.monotonic_ns(), next(self._sequence))


def sustained(
    classifier: Classifier,
    camera: CameraSettings,
    frames: Sequence[Pixels],
    maker: EventMaker,
    publisher: Publisher,
    seconds: float,
) -> tuple[dict[str, float], float]:
    """Interleave ROUNDS of the three measurements within `seconds`.

    Args:
        camera: opened for each of its rounds only, so that it does not disturb the others.
        frames: some of its pictures, for the rounds without it.

    Returns:
        The fields of `Result` that were measured, and the frames a second that were captured. They are medians over
        the rounds; a percentage is the median of the rounds' ratios to the model alone.

    Raises:
        CameraError: the camera fails.
    """
    share = seconds / ROUNDS / 3
    alone, memory, whole, captured = [], [], [], []
    for _ in range(ROUNDS):
        alone.append(apart(model_fps, classifier, frames, share))
        memory.append(pipeline_fps(FramesInMemory(frames), Status(), classifier, maker, publisher, share)[0])
        classified_fps, captured_fps = camera_fps(camera, classifier, maker, publisher, share)
        whole.append(classified_fps)
        captured.append(captured_fps)

    def percent(rates: Sequence[float]) -> float:
        return round(100 * median(rate / model for rate, model in zip(rates, alone, strict=True)), 1)

    return {
        "model_fps": round(median(alone), 1),
        "sustained_fps": round(median(whole), 1),
        "of_model_percent": percent(whole),
        "from_memory_fps": round(median(memory), 1),
        "from_memory_percent": percent(memory),
    }, median(captured)


def model_fps(classifier: Classifier, frames: Sequence[Pixels], seconds: float) -> float:
    """Inferences a second, of buffers that were prepared before."""
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
    """`pipeline_fps` with the daemon's own capture thread.

    Raises:
        CameraError: the camera fails, or a call into it does not return.
    """
    status = Status()
    capture = Capture(camera, status)
    capture.start()
    try:
        rates = pipeline_fps(capture, status, classifier, maker, publisher, seconds)
    finally:
        stopped = capture.stop(STOP_S)
    if not stopped:
        raise CameraError(f"{camera.source} does not close; check the camera, and run again.")
    return rates


def pipeline_fps(
    frames: FrameSource,
    status: Status,
    classifier: Classifier,
    maker: EventMaker,
    publisher: Publisher,
    seconds: float,
) -> tuple[float, float]:
    """Frames a second that the daemon's pipeline classified and published, and frames a second that were captured.

    Raises:
        CameraError: the camera failed, ended or does not answer.
    """

    def counted() -> tuple[int, int]:
        """The frames classified and captured so far."""
        if pipeline.failure is not None:
            raise pipeline.failure
        now = status.snapshot()
        if error := now.gauges.get("camera_error"):
            raise CameraError(error)
        if pipeline.ended.is_set():
            raise CameraError(f"{now.gauges['camera_source']} has ended; choose a source that goes on.")
        if status.overdue().get(STAGE, 0.0) > STUCK_S:
            raise CameraError(f"{now.gauges['camera_source']} does not answer; check the camera, and run again.")
        return now.counters.get("frames_classified", 0), now.counters.get("frames_captured", 0)

    def deliver(event: Event) -> None:
        delivery.submit(publisher.publish, event)

    with ThreadPoolExecutor(1, "publish") as delivery:  # in place of the daemon's delivery thread
        decider = Decider(EVERY_FRAME, classifier.labels)
        pipeline = Pipeline(frames, classifier, decider, maker, deliver, status)
        pipeline.start()
        try:
            # The first frames find the threads still starting.
            while counted()[0] < 3:
                time.sleep(0.001)
            first, began = counted(), time.perf_counter()
            while time.perf_counter() - began < seconds or counted()[0] < first[0] + 3:
                time.sleep(min(0.05, seconds / 10))
            last, passed = counted(), time.perf_counter() - began
        finally:
            pipeline.stop(STOP_S)
            delivery.shutdown(cancel_futures=True)
    return (last[0] - first[0]) / passed, (last[1] - first[1]) / passed
