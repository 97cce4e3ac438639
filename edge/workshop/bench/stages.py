"""Sends one frame after the other through every stage, and times each stage alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from edge.camera.geometry import FrameBuffers
from edge.camera.source import Source, UnreadablePictureError
from edge.daemon.event_maker import EventMaker
from edge.decision.decider import Decider
from edge.errors import CameraError
from edge.frames import Pixels
from edge.settings.schema import DecisionSettings
from edge.vision.classifier import Classifier
from edge.workshop.bench.publish import Publisher
from edge.workshop.bench.result import STAGES, Latency, latency

LEAST = 20  # measurements, however slow the board is; of fewer, the p95 would be the maximum
UNREADABLE = 100  # broken pictures in a row, after which no good one is expected
# Every frame becomes an event, so that the last two stages are as busy as they can get.
EVERY_FRAME = DecisionSettings(every_frame=True)


def read_frames(source: Source, buffers: FrameBuffers, count: int) -> list[Pixels]:
    """Copies of the next `count` pictures.

    Raises:
        CameraError: the source has fewer.
    """
    return [next_picture(source, buffers)[0].copy() for _ in range(count)]


def next_picture(source: Source, buffers: FrameBuffers) -> tuple[Pixels, float]:
    """The next picture that can be read, and the milliseconds from the grabbed picture to RGB pixels.

    Raises:
        CameraError: the source has ended, or UNREADABLE pictures in a row were broken.
    """
    for _ in range(UNREADABLE):
        if not source.grab():
            raise CameraError(f"{source.name} has ended; choose a source that goes on, or name pictures with --photos.")
        began = time.perf_counter_ns()
        try:
            pixels = source.retrieve(buffers)
        except UnreadablePictureError:
            continue
        return pixels, (time.perf_counter_ns() - began) / 1e6
    raise CameraError(f"{source.name} gave {UNREADABLE} broken pictures in a row; name others with --photos.")


def stage_latencies(
    source: Source,
    buffers: FrameBuffers,
    classifier: Classifier,
    maker: EventMaker,
    publisher: Publisher,
    seconds: float,
) -> dict[str, Latency]:
    """The percentiles of each of STAGES, measured for `seconds` and with at least LEAST frames.

    Raises:
        CameraError: the source has ended or gives broken pictures only.
    """
    decider = Decider(EVERY_FRAME, classifier.labels)
    buffer = classifier.new_input()
    times: dict[str, list[float]] = {stage: [] for stage in STAGES}
    destination = publisher.destination
    until = time.monotonic() + seconds
    while time.monotonic() < until or len(times["publish"]) < LEAST:
        pixels, capture_ms = next_picture(source, buffers)
        times["capture"].append(capture_ms)
        with _timed(times["preprocess"]):
            classifier.prepare(pixels, buffer)
        with _timed(times["inference"]):
            probabilities = classifier.infer(buffer)
        with _timed(times["decision"]):
            captured_ns = time.monotonic_ns()
            decision = decider.decide(probabilities, captured_ns / 1e9)
            assert decision is not None  # EVERY_FRAME
            event = maker.make(decision, classifier.name, captured_ns, {})
        with _timed(times["publish"]):
            publisher.publish(event)
        if publisher.destination != destination:  # the broker failed: what was timed before is not comparable
            times["publish"].clear()
            destination = publisher.destination
        size = f"{pixels.shape[1]} × {pixels.shape[0]}"
        buffers.give_back(pixels)
    what = {
        "capture": f"grabbed to RGB, {source.name.rsplit('/', 1)[-1]}",
        "preprocess": f"{size} to the model's input",
        "inference": "buffer to probabilities",
        "decision": "probabilities to event",
        "publish": destination,
    }
    return {stage: latency(values, what[stage]) for stage, values in times.items()}


@contextmanager
def _timed(into: list[float]) -> Iterator[None]:
    began = time.perf_counter_ns()
    yield
    into.append((time.perf_counter_ns() - began) / 1e6)
