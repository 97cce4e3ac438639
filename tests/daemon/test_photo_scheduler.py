"""Tests that photos are classified between frames, that surplus ones are refused, and that none waits endlessly."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np
import pytest

from edge.daemon.event_maker import EventMaker
from edge.daemon.photo_scheduler import PHOTOS_WAITING, SHARE_OF_BUSY_TIME, FrameRhythm, PhotoScheduler
from edge.daemon.pipeline import Pipeline
from edge.decision.decider import Decider
from edge.errors import BusyError
from edge.events import Classification, Probabilities
from edge.frames import Frame, Pixels
from edge.settings.schema import DecisionSettings
from edge.status.snapshot import Status
from tests.broker import eventually

WAIT_S = 20.0
PHOTO = np.full((2, 2, 3), 7, np.uint8)


class Camera:
    """Delivers frames as fast as they are taken, or none at all."""

    live = False
    ended = False

    def __init__(self, *, delivers: bool = True) -> None:
        self._delivers = delivers

    def take(self, timeout_s: float) -> Frame | None:
        if not self._delivers:
            time.sleep(0.01)
        return Frame(np.zeros((2, 2, 3), np.uint8), time.monotonic_ns(), 0) if self._delivers else None


class Model:
    name = "fake-int8-000000"
    labels = tuple(str(n) for n in range(8))

    def __init__(self, inference_s: float = 0.0) -> None:
        self._inference_s = inference_s
        self.order: list[str] = []  # "frame" and "photo", as they were inferred
        self.hold = threading.Event()
        self.hold.set()

    def join_thread(self) -> None:
        """Nothing to prepare."""

    def new_input(self) -> Pixels:
        return np.zeros((2, 2, 3), np.uint8)

    def prepare(self, pixels: Pixels, into: Pixels) -> None:
        np.copyto(into, pixels)

    def infer(self, buffer: Pixels) -> Probabilities:
        assert self.hold.wait(WAIT_S)
        time.sleep(self._inference_s)
        self.order.append("photo" if buffer[0, 0, 0] else "frame")
        probabilities = np.zeros(8, np.float32)
        probabilities[buffer[0, 0, 0]] = 1
        return probabilities


@contextmanager
def running(camera: Camera, model: Model, status: Status | None = None) -> Iterator[Pipeline[Pixels]]:
    decider = Decider(DecisionSettings(), model.labels)
    maker = EventMaker("a", "b")
    pipeline = Pipeline(camera, model, decider, maker, lambda _: None, status or Status())
    pipeline.start()
    try:
        yield pipeline
    finally:
        model.hold.set()
        assert pipeline.stop(WAIT_S)


def test_a_photo_is_answered_while_the_camera_delivers_nothing() -> None:
    with running(Camera(delivers=False), Model()) as pipeline:
        found = pipeline.classify(PHOTO).result(WAIT_S)
    assert (found.top[0].label, found.model) == ("7", Model.name)
    assert set(found.latency_ms) == {"preprocess", "inference"}


def test_a_flood_of_photos_leaves_the_frames_their_share() -> None:
    model = Model(inference_s=0.004)
    answers: list[Future[Classification]] = []
    with running(Camera(), model) as pipeline:
        until = time.monotonic() + WAIT_S
        while model.order.count("photo") < 20 and time.monotonic() < until:
            try:
                answers.append(pipeline.classify(PHOTO))
            except BusyError:
                time.sleep(0.001)
    order = model.order
    photos = order.count("photo")
    assert photos >= 20
    assert order.count("frame") >= 0.8 * len(order)


def test_the_surplus_is_refused_at_once_with_a_sentence() -> None:
    model = Model()
    model.hold.clear()
    with running(Camera(), model) as pipeline:
        answers = [pipeline.classify(PHOTO) for _ in range(PHOTOS_WAITING)]
        with pytest.raises(BusyError, match="Too many photos are waiting"):
            pipeline.classify(PHOTO)
        model.hold.set()
        assert all(answer.result(WAIT_S).top[0].index == 7 for answer in answers)


def test_the_status_says_how_many_wait() -> None:
    model, status = Model(), Status()
    model.hold.clear()
    with running(Camera(delivers=False), model, status) as pipeline:
        assert status.snapshot().gauges["photos_waiting"] == 0
        answers = [pipeline.classify(PHOTO) for _ in range(3)]
        eventually(lambda: status.snapshot().gauges["photos_waiting"] == 2, "one is with the model, two wait")
        model.hold.set()
        for answer in answers:
            answer.result(WAIT_S)
        assert status.snapshot().gauges["photos_waiting"] == 0


def test_a_photo_whose_asker_has_gone_is_not_inferred() -> None:
    model = Model()
    model.hold.clear()
    with running(Camera(delivers=False), model) as pipeline:
        first, second, third = (pipeline.classify(PHOTO) for _ in range(3))
        assert second.cancel()
        model.hold.set()
        first.result(WAIT_S)
        third.result(WAIT_S)
    assert model.order == ["photo", "photo"]


def test_a_stop_cancels_what_waits_and_refuses_what_comes() -> None:
    model = Model()
    with running(Camera(delivers=False), model) as pipeline:
        assert pipeline.stop(WAIT_S)
        with pytest.raises(BusyError, match="stopping"):
            pipeline.classify(PHOTO)


def test_a_photo_that_breaks_the_model_is_reported_to_its_sender_and_the_service() -> None:
    class Broken(Model):
        def infer(self, buffer: Pixels) -> Probabilities:
            raise RuntimeError("the model is broken")

    with running(Camera(delivers=False), Broken()) as pipeline:
        with pytest.raises(RuntimeError, match="broken"):
            pipeline.classify(PHOTO).result(WAIT_S)
        until = time.monotonic() + WAIT_S
        while pipeline.failure is None and time.monotonic() < until:
            threading.Event().wait(0.001)
        assert isinstance(pipeline.failure, RuntimeError)


def test_a_debt_is_paid_by_idle_time_in_full_and_by_frames_in_part() -> None:
    model = Model(inference_s=0.01)
    status = Status()
    queue = PhotoScheduler(model, threading.Condition(), threading.Lock(), status)
    for _ in range(2):
        queue.put(PHOTO)
    queue.serve()
    debt = queue.wait_s
    assert debt is not None
    assert debt >= 0.01
    queue.serve()
    assert status.snapshot().gauges["photos_waiting"] == 1  # its debt is not paid yet
    queue.frame_classified(1.0)
    assert queue.wait_s == max(0.0, debt - SHARE_OF_BUSY_TIME)
    queue.idled(debt)
    queue.serve()
    assert queue.wait_s is None


def test_nothing_begins_that_the_next_frame_would_have_to_wait_for() -> None:
    rhythm = FrameRhythm()
    for frame in range(20):
        rhythm.frame_ready(frame * 0.05)
    came = 19 * 0.05
    assert rhythm.busy_for_s(came + 0.012, 0.01) == 0, "there is time until the next frame"
    assert rhythm.busy_for_s(came + 0.04, 0.01) == pytest.approx(0.015), "not now, but behind it"
    assert rhythm.busy_for_s(came + 0.06, 0.01) == 0, "a camera that delivers nothing stops no photo"
    assert rhythm.busy_for_s(came + 0.04, 0.02) == 0, "there is never enough time: only the share counts"


def test_no_frame_has_come_yet() -> None:
    rhythm = FrameRhythm()
    assert rhythm.busy_for_s(0.0, 0.01) == 0
    rhythm.frame_ready(0.0)
    assert rhythm.busy_for_s(0.0, 0.01) == 0
