"""Tests that a frame on its way to an event allocates no memory of the size of a picture."""

import itertools
import resource
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.daemon.event_maker import EventMaker
from edge.decision.decider import Decider
from edge.settings.schema import DecisionSettings, ModelSettings
from edge.vision.bundle import load_bundle
from edge.vision.classifier import Classifier

FRAMES = 20
PICTURE_BYTES = 224 * 224 * 3
PAGE_BYTES = 4096


@pytest.fixture
def frames_classified(bundle_dir: Path) -> Iterator[int]:
    """Each step does what the pipeline's threads do with one frame, after a warm-up."""

    def steps() -> Iterator[int]:
        classifier = Classifier(load_bundle(bundle_dir), ModelSettings(threads=1))
        decider = Decider(DecisionSettings(every_frame=True), classifier.labels)
        maker = EventMaker("porch", "5f1c2e7a")
        frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
        buffer = classifier.new_input()
        for number in itertools.count():
            classifier.prepare(frame, buffer)
            decision = decider.decide(classifier.infer(buffer), number / 30)
            assert decision is not None
            maker.make(decision, classifier.name, number, {"inference": 1.0}).to_json()
            yield number

    running = steps()
    for _ in range(5):
        next(running)
    return running


def test_neither_python_nor_numpy_makes_anything_as_large_as_a_picture(frames_classified: Iterator[int]) -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(FRAMES):
            next(frames_classified)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < PICTURE_BYTES / 2


def test_torch_and_opencv_reuse_the_memory_they_have(frames_classified: Iterator[int]) -> None:
    """torch allocates each operator's output; it must reuse the process's memory, without page faults."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(FRAMES):
        next(frames_classified)
    faults = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before
    assert faults / FRAMES < PICTURE_BYTES / PAGE_BYTES / 2
