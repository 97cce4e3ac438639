"""One frame after the other through every stage, each timed alone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from edge.bench.publish import Publisher
from edge.bench.result import STAGES, Latency, latency
from edge.camera.geometry import FrameBuffers
from edge.camera.source import Source
from edge.decision import Decider
from edge.errors import CameraError
from edge.events import Event
from edge.frames import Pixels
from edge.pipeline import EventMaker
from edge.settings import DecisionSettings
from edge.vision.classifier import Classifier

LEAST = 20  # frames, however slow the board: below that a p95 is a maximum
# Every frame becomes an event, so that the last two stages are as busy as they can get.
EVERY_FRAME = DecisionSettings(every_frame=True)


def read_frames(source: Source, buffers: FrameBuffers, count: int) -> list[Pixels]:
    """The next `count` pictures, each in memory of its own; fewer where a file ends.

    Raises:
        CameraError: there is none.
    """
    frames: list[Pixels] = []
    while len(frames) < count and source.grab():
        frames.append(source.retrieve(buffers).copy())
    if not frames:
        raise CameraError(f"{source.name} gave no picture; name another with --photos.")
    return frames


def stage_latencies(
    source: Source,
    buffers: FrameBuffers,
    classifier: Classifier,
    maker: EventMaker,
    publisher: Publisher,
    seconds: float,
) -> dict[str, Latency]:
    """Percentiles of each of STAGES over `seconds` of frames, and over LEAST at least."""
    decider = Decider(EVERY_FRAME, classifier.labels)
    buffer = classifier.new_input()
    times: dict[str, list[float]] = {stage: [] for stage in STAGES}
    until = time.monotonic() + seconds
    while time.monotonic() < until or len(times["capture"]) < LEAST:
        if not source.grab():
            break
        with _timed(times["capture"]):
            pixels = source.retrieve(buffers)
        with _timed(times["preprocess"]):
            classifier.prepare(pixels, buffer)
        with _timed(times["inference"]):
            probabilities = classifier.infer(buffer)
        with _timed(times["decision"]):
            captured_ns = time.monotonic_ns()
            decision = decider.decide(probabilities, captured_ns / 1e9)
            assert decision is not None  # EVERY_FRAME
            event: Event = maker.make(decision, classifier.name, captured_ns, {})
        with _timed(times["publish"]):
            publisher.publish(event)
        size = f"{pixels.shape[1]} × {pixels.shape[0]}"
        buffers.give_back(pixels)
    what = {
        "capture": f"grabbed to RGB, {source.name.rsplit('/', 1)[-1]}",
        "preprocess": f"{size} to the model's input",
        "inference": "buffer to probabilities",
        "decision": "probabilities to event",
        "publish": publisher.what,
    }
    return {stage: latency(values, what[stage]) for stage, values in times.items()}


def inference_p50_ms(classifier: Classifier, frames: Sequence[Pixels], seconds: float) -> float:
    """The median of inference over `seconds`, and over LEAST inferences at least."""
    buffer = classifier.new_input()
    times: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until or len(times) < LEAST:
        classifier.prepare(frames[len(times) % len(frames)], buffer)
        with _timed(times):
            classifier.infer(buffer)
    return latency(times, "").p50


@contextmanager
def _timed(into: list[float]) -> Iterator[None]:
    began = time.perf_counter_ns()
    yield
    into.append((time.perf_counter_ns() - began) / 1e6)
