"""Tests that inference never waits for the camera, uses a live source's newest frame, and every frame of a file."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest

from edge.daemon.event_maker import EventMaker
from edge.daemon.pipeline import Pipeline
from edge.decision.decider import Decider
from edge.events import Event, Probabilities
from edge.frames import Frame, Pixels
from edge.settings.schema import DecisionSettings
from edge.status.snapshot import Status

WAIT_S = 20.0


class Frames:
    """A source under the test's control; every pixel of a frame has the frame's number."""

    def __init__(self, count: int | None, *, live: bool) -> None:
        self.live = live
        self._numbers = itertools.cycle(range(250)) if count is None else iter(range(count))
        self.ended = False

    def take(self, timeout_s: float) -> Frame | None:
        number = next(self._numbers, None)
        if number is None:
            self.ended = True
            return None
        return Frame(np.full((2, 2, 3), number, np.uint8), captured_ns=number * 10**9, sequence=number)


class SlowModel:
    """Answers with the class whose index is the frame's number; each inference waits until the test lets it finish."""

    name = "slow-int8-000000"
    labels = tuple(f"class {n}" for n in range(256))

    def __init__(self, *, held: bool = False) -> None:
        self.seen: list[int] = []
        self.started = threading.Semaphore(0)
        self.pass_on = threading.Semaphore(0 if held else 10**6)

    def join_thread(self) -> None:
        """Nothing to prepare."""

    def new_input(self) -> Pixels:
        return np.zeros((2, 2, 3), np.uint8)

    def prepare(self, pixels: Pixels, into: Pixels) -> None:
        np.copyto(into, pixels)

    def infer(self, buffer: Pixels) -> Probabilities:
        self.started.release()
        assert self.pass_on.acquire(timeout=WAIT_S)
        self.seen.append(int(buffer[0, 0, 0]))
        probabilities = np.zeros(256, np.float32)
        probabilities[self.seen[-1]] = 1
        return probabilities


@contextmanager
def running(frames: Frames, model: SlowModel) -> Iterator[tuple[Pipeline[Pixels], list[Event], Status]]:
    events: list[Event] = []
    status = Status()
    decider = Decider(DecisionSettings(smoothing_s=0, hold_s=0), model.labels)
    maker = EventMaker(
        *("porch", "5f1c2e7a"),
        monotonic_ns=lambda: 50 * 10**9,
        wall_s=lambda: 1_700_000_000.0,
        uptime_s=lambda: 60.0,
    )
    pipeline = Pipeline(frames, model, decider, maker, events.append, status)
    pipeline.start()
    try:
        yield pipeline, events, status
    finally:
        model.pass_on.release(10**6)
        assert pipeline.stop(WAIT_S)


def test_every_frame_of_a_file_becomes_a_prediction_in_order() -> None:
    frames, model = Frames(40, live=False), SlowModel()
    with running(frames, model) as (pipeline, events, status):
        assert pipeline.ended.wait(WAIT_S)
        assert model.seen == list(range(40))
        assert [event.label for event in events] == [f"class {n}" for n in range(40)]
        assert status.snapshot().counters["frames_classified"] == 40
        assert status.overdue() == {}
        assert pipeline.failure is None


def test_a_picture_is_shown_when_its_event_is_made_so_that_it_never_stands_beside_other_labels() -> None:
    account: list[str] = []
    decider = Decider(DecisionSettings(smoothing_s=0, hold_s=0), SlowModel.labels)
    pipeline = Pipeline(
        *(Frames(20, live=False), SlowModel(), decider, EventMaker("a", "b")),
        *(lambda event: account.append(event.label), Status()),
        watch=lambda frame: partial(account.append, f"picture {frame.sequence}"),
    )
    pipeline.start()
    assert pipeline.ended.wait(WAIT_S)
    assert pipeline.stop(WAIT_S)
    assert account == [entry for n in range(20) for entry in (f"class {n}", f"picture {n}")]


def test_a_slow_model_sees_the_newest_live_frame_and_counts_what_it_never_saw() -> None:
    frames, model = Frames(100, live=True), SlowModel(held=True)
    with running(frames, model) as (pipeline, _, status):
        assert model.started.acquire(timeout=WAIT_S)  # inside an inference; 100 frames arrive meanwhile
        while not frames.ended:
            threading.Event().wait(0.001)
        model.pass_on.release(10**6)
        assert pipeline.ended.wait(WAIT_S)
        assert model.seen[-1] == 99
        assert len(model.seen) <= 3
        assert status.snapshot().counters["frames_superseded"] == 100 - len(model.seen)


def test_an_event_has_the_time_when_its_frame_was_captured() -> None:
    with running(Frames(41, live=False), SlowModel()) as (pipeline, events, _):
        assert pipeline.ended.wait(WAIT_S)
    # The clocks stand at 50 s monotonic; frame 40 is 10 s old.
    assert events[40].uptime_s == 50.0
    assert events[40].time == "2023-11-14T22:13:10.000Z"
    assert events[40].id == "porch-5f1c2e7a-0060000-000040"
    assert set(events[40].latency_ms) == {"capture", "preprocess", "inference"}


def test_an_event_of_a_video_read_faster_than_it_plays_is_not_in_the_future() -> None:
    with running(Frames(60, live=False), SlowModel()) as (pipeline, events, _):
        assert pipeline.ended.wait(WAIT_S)
    assert events[59].uptime_s == 60.0


def test_an_inference_that_raises_is_kept_for_the_service_and_ends_nothing_else() -> None:
    class Broken(SlowModel):
        def infer(self, buffer: Pixels) -> Probabilities:
            raise RuntimeError("the model is broken")

    with running(Frames(5, live=False), Broken()) as (pipeline, events, _):
        while pipeline.failure is None:
            threading.Event().wait(0.001)
        assert isinstance(pipeline.failure, RuntimeError)
        assert events == []


def test_an_inference_that_hangs_is_overdue_and_does_not_hold_up_a_stop() -> None:
    now = [0.0]
    model = SlowModel(held=True)
    status = Status(clock=lambda: now[0])
    decider = Decider(DecisionSettings(), [str(n) for n in range(256)])
    pipeline = Pipeline(Frames(5, live=False), model, decider, EventMaker("a", "b"), lambda _: None, status)
    pipeline.start()
    assert model.started.acquire(timeout=WAIT_S)
    now[0] = 100.0
    assert "inference" in status.overdue()
    assert pipeline.stop(0.05) is False
    model.pass_on.release(10**6)
    assert pipeline.stop(WAIT_S)


class OtherModel(SlowModel):
    """Has other labels and a buffer of another shape, so that a frame given to the wrong model is noticed."""

    name = "other-int8-000000"
    labels = tuple(f"thing {n}" for n in range(256))

    def new_input(self) -> Pixels:
        return np.zeros((4, 4, 3), np.uint8)

    def prepare(self, pixels: Pixels, into: Pixels) -> None:
        assert into.shape == (4, 4, 3)
        into[:] = pixels[0, 0]


def test_a_swap_between_two_frames_loses_none_and_each_is_answered_by_the_model_it_was_prepared_for() -> None:
    models = [SlowModel(), OtherModel()]
    with running(Frames(200, live=False), models[0]) as (pipeline, events, _):
        for number in range(20):
            assert models[number % 2].started.acquire(timeout=WAIT_S)
            pipeline.swap(models[(number + 1) % 2])
        assert pipeline.ended.wait(WAIT_S)
        assert pipeline.failure is None
    assert sorted(models[0].seen + models[1].seen) == list(range(200))
    assert [event.id[-6:] for event in events] == [f"{number:06d}" for number in range(200)]
    for number, event in enumerate(events):
        kind = {"slow-int8-000000": "class", "other-int8-000000": "thing"}[event.model]
        assert event.label == f"{kind} {number}"
        assert all(label.label.startswith(kind) for label in event.top)
    assert len({event.model for event in events}) == 2


def test_a_new_model_is_heard_at_once_even_if_it_says_the_same() -> None:
    class Twin(SlowModel):
        name = "twin-int8-000000"

        def infer(self, buffer: Pixels) -> Probabilities:
            buffer[:] = 7
            return super().infer(buffer)

    first, second = Twin(held=True), Twin()
    with running(Frames(6, live=False), first) as (pipeline, events, _):
        assert first.started.acquire(timeout=WAIT_S)
        pipeline.swap(second)
        first.pass_on.release(10**6)
        assert pipeline.ended.wait(WAIT_S)
    assert [event.reason for event in events] == ["change", "change"]


def test_a_photo_that_waits_during_a_swap_is_answered_by_the_model_it_was_prepared_for() -> None:
    first, second = SlowModel(held=True), OtherModel()
    photo = np.full((2, 2, 3), 9, np.uint8)
    with running(Frames(None, live=False), first) as (pipeline, _, __):
        assert first.started.acquire(timeout=WAIT_S)
        before = pipeline.classify(photo)
        pipeline.swap(second)
        after = pipeline.classify(photo)
        first.pass_on.release(10**6)
        assert (before.result(WAIT_S).model, before.result(WAIT_S).top[0].label) == (first.name, "class 9")
        assert (after.result(WAIT_S).model, after.result(WAIT_S).top[0].label) == (second.name, "thing 9")


@pytest.mark.parametrize("live", [True, False])
def test_a_stop_before_the_end_ends_both_threads(live: bool) -> None:
    model = SlowModel(held=True)
    with running(Frames(None, live=live), model) as (pipeline, _, __):
        assert model.started.acquire(timeout=WAIT_S)
        model.pass_on.release(10**6)
        assert pipeline.stop(WAIT_S)
        assert not pipeline.ended.is_set()
