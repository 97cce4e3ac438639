"""Tests several inferences at the same time: what comes out is what one inference after the other would give."""

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edge.daemon.event_maker import EventMaker
from edge.daemon.pipeline import Pipeline
from edge.decision.decider import Decider
from edge.events import Event, Probabilities
from edge.frames import Frame, Pixels
from edge.photos.decode import read_photo
from edge.settings.schema import DecisionSettings, ModelSettings
from edge.status.snapshot import Status

WAIT_S = 20.0
CLASSES = 256


class Frames:
    """A file or, if `live`, a camera that delivers when the test lets it; each pixel has the number of its frame."""

    def __init__(self, count: int, *, live: bool = False) -> None:
        self.live, self.ended = live, False
        self.delivered = threading.Semaphore(0)
        self._numbers = iter(range(count))

    def take(self, timeout_s: float) -> Frame | None:
        if self.live and not self.delivered.acquire(timeout=timeout_s):
            return None
        number = next(self._numbers, None)
        if number is None:
            self.ended = True
            return None
        return Frame(np.full((2, 2, 3), number, np.uint8), captured_ns=number * 10**9, sequence=number)


class GatedModel:
    """Answers with the class that a frame's number names; `held` frames wait inside their inference."""

    labels = tuple(f"class {number}" for number in range(CLASSES))

    def __init__(self, name: str = "gated-int8-000000", infer_s: Callable[[], float] = lambda: 0.0) -> None:
        self.name = name
        self.started: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.held: dict[int, threading.Event] = {}
        self.joined = 0
        self._infer_s = infer_s

    def hold(self, *numbers: int) -> None:
        self.held |= {number: threading.Event() for number in numbers}

    def join_thread(self) -> None:
        self.joined += 1

    def new_input(self) -> Pixels:
        return np.zeros((2, 2, 3), np.uint8)

    def prepare(self, pixels: Pixels, into: Pixels) -> None:
        np.copyto(into, pixels)

    def infer(self, buffer: Pixels) -> Probabilities:
        number = int(buffer[0, 0, 0])
        self.started.put(number)
        if number in self.held:
            assert self.held[number].wait(WAIT_S)
        time.sleep(self._infer_s())
        probabilities = np.zeros(CLASSES, np.float32)
        probabilities[number] = 1
        return probabilities


class Run:
    """A pipeline with several streams, and what came out of it."""

    def __init__(self, frames: Frames, model: GatedModel, streams: int, status: Status | None = None) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.status = status or Status()
        self.pipeline = Pipeline(
            *(frames, model, Decider(EVERY_FRAME, model.labels), EventMaker("porch", "5f1c2e7a")),
            *(self.events.put, self.status),
            streams=streams,
        )

    def labels(self) -> list[str]:
        return [self.events.get_nowait().label for _ in range(self.events.qsize())]


EVERY_FRAME = DecisionSettings(smoothing_s=0, hold_s=0, every_frame=True)


@contextmanager
def running(frames: Frames, model: GatedModel, streams: int = 2, status: Status | None = None) -> Iterator[Run]:
    run = Run(frames, model, streams, status)
    run.pipeline.start()
    try:
        yield run
    finally:
        for gate in model.held.values():
            gate.set()
        assert run.pipeline.stop(WAIT_S)


def test_two_frames_are_inferred_at_once_and_the_later_one_waits_for_the_earlier_one_s_event() -> None:
    model = GatedModel()
    model.hold(0)
    with running(Frames(5), model) as run:
        assert {model.started.get(timeout=WAIT_S) for _ in range(2)} == {0, 1}
        with pytest.raises(queue.Empty):  # frame 1 is inferred, and frame 2 does not overtake frame 0
            model.started.get(timeout=0.05)
        assert run.labels() == []
        model.held[0].set()
        assert run.pipeline.ended.wait(WAIT_S)
        assert run.labels() == [f"class {number}" for number in range(5)]
    assert model.joined == 2


def test_frames_whose_inferences_take_differently_long_keep_their_order() -> None:
    durations = random.Random(13)
    model = GatedModel(infer_s=lambda: durations.choice((0, 0, 0.001, 0.004)))
    with running(Frames(200), model, streams=3) as run:
        assert run.pipeline.ended.wait(WAIT_S)
        assert run.status.snapshot().counters["frames_classified"] == 200
        events = [run.events.get_nowait() for _ in range(200)]
    assert [event.label for event in events] == [f"class {number}" for number in range(200)]
    assert [int(event.id[-6:]) for event in events] == list(range(200))


def test_a_swap_while_several_are_inferred_loses_none_and_each_has_the_model_it_was_prepared_for() -> None:
    durations = random.Random(13)
    models = [GatedModel(name, lambda: durations.choice((0, 0.001))) for name in ("first", "second")]
    models[1].labels = tuple(f"thing {number}" for number in range(CLASSES))
    kinds = {"first": "class", "second": "thing"}
    with running(Frames(200), models[0], streams=3) as run:
        for number in range(40):
            models[number % 2].started.get(timeout=WAIT_S)
            run.pipeline.swap(models[(number + 1) % 2])
        assert run.pipeline.ended.wait(WAIT_S)
        events = [run.events.get_nowait() for _ in range(200)]
    assert [event.label for event in events] == [
        f"{kinds[event.model]} {number}" for number, event in enumerate(events)
    ]
    assert {event.model for event in events} == set(kinds)


def test_no_inference_runs_while_a_model_is_prepared_in_another_thread() -> None:
    model = GatedModel()
    with running(Frames(100), model, streams=3) as run:
        model.started.get(timeout=WAIT_S)
        with run.pipeline.inferring:
            while not model.started.empty():
                model.started.get()
            with pytest.raises(queue.Empty):
                model.started.get(timeout=0.05)
        assert run.pipeline.ended.wait(WAIT_S)


def test_a_stop_waits_for_the_frames_under_way_and_they_become_events() -> None:
    model = GatedModel()
    model.hold(0)
    with running(Frames(5), model) as run:
        assert {model.started.get(timeout=WAIT_S) for _ in range(2)} == {0, 1}
        began = time.monotonic()
        assert run.pipeline.stop(0.05) is False  # one inference hangs; the service ends the process
        assert time.monotonic() - began < 1
        model.held[0].set()
        assert run.pipeline.stop(WAIT_S)
        assert run.labels() == ["class 0", "class 1"]


def test_an_inference_that_raises_stops_the_others_before_they_leave_a_gap() -> None:
    class Broken(GatedModel):
        def infer(self, buffer: Pixels) -> Probabilities:
            probabilities = super().infer(buffer)
            if buffer[0, 0, 0] == 3:
                raise RuntimeError("the model is broken")
            return probabilities

    model = Broken()
    model.hold(3)
    with running(Frames(50), model) as run:
        while model.started.get(timeout=WAIT_S) != 4:  # frame 4 waits for frame 3
            pass
        model.held[3].set()
        for thread in run.pipeline._threads[1:]:
            thread.join(WAIT_S)
            assert not thread.is_alive()
        assert isinstance(run.pipeline.failure, RuntimeError)
        assert run.labels() == ["class 0", "class 1", "class 2"]


def test_a_stream_that_hangs_is_overdue_although_the_other_one_has_nothing_to_do() -> None:
    now = [0.0]
    model = GatedModel()
    model.hold(0)
    with running(Frames(1), model, status=Status(clock=lambda: now[0])) as run:
        model.started.get(timeout=WAIT_S)
        now[0] = 100.0
        assert set(run.status.overdue()) & {"inference", "inference 2"}


def test_a_photo_is_answered_while_every_stream_has_frames() -> None:
    model = GatedModel(infer_s=lambda: 0.001)
    with running(Frames(250), model) as run:
        answer = run.pipeline.classify(np.full((2, 2, 3), 255, np.uint8)).result(WAIT_S)
        assert answer.top[0].label == "class 255"
        assert run.pipeline.ended.wait(WAIT_S)
        assert len(run.labels()) == 250


def test_of_a_camera_that_is_faster_each_stream_takes_the_newest_frame() -> None:
    model = GatedModel()
    model.hold(0, 1)
    frames = Frames(100, live=True)
    with running(frames, model) as run:
        for number in (0, 1):
            frames.delivered.release()
            assert model.started.get(timeout=WAIT_S) == number
        frames.delivered.release(99)
        while not frames.ended:
            threading.Event().wait(0.001)
        for gate in model.held.values():
            gate.set()
        assert run.pipeline.ended.wait(WAIT_S)
        assert run.labels() == ["class 0", "class 1", "class 99"]
        assert run.status.snapshot().counters["frames_superseded"] == 97


def test_the_real_model_gives_the_same_events_with_one_stream_and_with_two(bundle_dir: Path, photos_dir: Path) -> None:
    from edge.vision.bundle import load_bundle
    from edge.vision.classifier import Classifier

    photos = [read_photo(photo) for photo in sorted(photos_dir.iterdir())]

    class Photos(Frames):
        def take(self, timeout_s: float) -> Frame | None:
            frame = super().take(timeout_s)
            return frame and Frame(photos[frame.sequence % len(photos)], frame.captured_ns, frame.sequence)

    settings = ModelSettings(streams=2).with_threads_of_streams()
    classifier = Classifier(load_bundle(bundle_dir), settings)

    def events(streams: int) -> list[object]:
        found: list[Event] = []
        decider = Decider(EVERY_FRAME, classifier.labels)
        maker = EventMaker("porch", "5f1c2e7a")
        pipeline = Pipeline(Photos(40), classifier, decider, maker, found.append, Status(), streams=streams)
        pipeline.start()
        assert pipeline.ended.wait(WAIT_S)
        assert pipeline.stop(WAIT_S)
        return [event.top for event in found]

    one = events(1)
    assert len(one) == 40
    assert events(2) == one
