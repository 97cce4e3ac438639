"""Schedules the photos of requests between the camera's frames, so that frames keep at least 80 % of their rate."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge.errors import BusyError
from edge.events import Classification, top_k
from edge.frames import Pixels
from edge.status.snapshot import Status
from edge.vision.model import Model

PHOTOS_WAITING = 8  # 160 kB of input buffer each
# While frames keep the inference thread busy, photos get this share of the frames' time. That leaves 1 / 1.15 = 87 %
# of the frame rate; 80 % is promised.
SHARE_OF_BUSY_TIME = 0.15
MEMORY = 0.8  # weight of the older frames in the moving averages
_Buffer = TypeVar("_Buffer")


@dataclass(slots=True)
class _Photo(Generic[_Buffer]):
    model: Model[_Buffer]
    buffer: _Buffer
    preprocess_ms: float
    answer: Future[Classification]


class FrameRhythm:
    """Predicts when the next frame is due from the intervals of the last ones; all times are seconds of one clock."""

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._interval_s = 0.0  # moving average

    def frame_ready(self, now_s: float) -> None:
        """Note that a frame became ready at `now_s`."""
        if self._last_s is not None:
            interval_s = now_s - self._last_s
            mean_s = self._interval_s or interval_s
            self._interval_s = MEMORY * mean_s + (1 - MEMORY) * interval_s
        self._last_s = now_s

    def busy_for_s(self, now_s: float, needs_s: float) -> float:
        """Seconds until work of `needs_s` may begin without delaying a frame; 0: now.

        Also 0 before the first frame, and where the frames leave no gap that the work would fit into.
        """
        if self._last_s is None or self._interval_s < 3 * needs_s:
            return 0.0
        due_s = self._last_s + self._interval_s
        begin_s, end_s = due_s - 1.5 * needs_s, due_s + 0.5 * needs_s  # with a margin, because both are estimates
        return end_s - now_s if begin_s < now_s < end_s else 0.0


class PhotoScheduler(Generic[_Buffer]):
    """A bounded queue of photos from many threads to the inference thread.

    After a photo the next one waits, so that frames keep their share of the time: the duration of the photo's
    inference is a debt, from which idle time is subtracted in full and a frame's inference by `SHARE_OF_BUSY_TIME` of
    its duration. The next photo starts when the debt is 0, unless it would delay a frame that is about to come.

    Args:
        model: prepares photos, in the thread that calls `put`, and classifies them.
        changed: the condition that wakes the inference thread; its lock guards the queue.
        inferring: the lock that is held during each inference.
        status: gets the counter `photos_classified` and the gauge `photos_waiting`.
    """

    def __init__(
        self, model: Model[_Buffer], changed: threading.Condition, inferring: threading.Lock, status: Status
    ) -> None:
        self._model, self._changed, self._inferring, self._status = model, changed, inferring, status
        self._free = self.new_buffers(model)
        self._waiting: deque[_Photo[_Buffer]] = deque()
        self._debt_s = 0.0
        self._rhythm = FrameRhythm()
        self._inference_s = 0.0  # the longest recent inference
        self._closed = False
        status.gauge(photos_waiting=0)

    def new_buffers(self, model: Model[_Buffer]) -> list[_Buffer]:
        """Input buffers for all photos that may wait."""
        return [model.new_input() for _ in range(PHOTOS_WAITING)]

    def swap(self, model: Model[_Buffer], free: list[_Buffer]) -> None:
        """Use `model` and its `new_buffers` for later photos; waiting photos keep the previous model."""
        with self._changed:
            self._model, self._free = model, free

    def put(self, pixels: Pixels) -> Future[Classification]:
        """Queue one photo, (height, width, 3) uint8 RGB; callable from any thread.

        Raises:
            BusyError: all buffers are in use, or the daemon is stopping.
        """
        with self._changed:
            if self._closed:
                raise BusyError("The daemon is stopping; ask again in a moment.")
            if not self._free:
                raise BusyError("Too many photos are waiting for the model; ask again in a moment.")
            model, buffer = self._model, self._free.pop()
        began = time.perf_counter()
        try:
            model.prepare(pixels, buffer)
        except BaseException:
            self._give_back(model, buffer)
            raise
        photo = _Photo(model, buffer, (time.perf_counter() - began) * 1000, Future())
        with self._changed:
            if self._closed:
                photo.answer.cancel()
            self._waiting.append(photo)
            self._status.gauge(photos_waiting=len(self._waiting))
            self._changed.notify_all()
        return photo.answer

    @property
    def wait_s(self) -> float | None:
        """Seconds of idle time until the next photo may be classified; None if none is waiting."""
        if not self._waiting:
            return None
        return max(self._debt_s, self._rhythm.busy_for_s(time.perf_counter(), self._inference_s))

    def frame_ready(self) -> None:
        """Note that a frame is ready to be classified."""
        self._rhythm.frame_ready(time.perf_counter())

    def frame_classified(self, seconds: float) -> None:
        """Note that the inference of a frame took `seconds`."""
        self._note(seconds)
        self._debt_s = max(0.0, self._debt_s - seconds * SHARE_OF_BUSY_TIME)

    def idled(self, seconds: float) -> None:
        """Note that the inference thread was idle for `seconds`."""
        self._debt_s = max(0.0, self._debt_s - seconds)

    def serve(self) -> None:
        """Classify one photo if one may start now; called by the inference thread."""
        with self._changed:
            if self.wait_s != 0:
                return
            photo = self._waiting.popleft()
            self._status.gauge(photos_waiting=len(self._waiting))
        if photo.answer.set_running_or_notify_cancel():
            self._status.count("photos_classified")
            began = time.perf_counter()
            try:
                with self._inferring:
                    probabilities = photo.model.infer(photo.buffer)
            except BaseException as error:
                photo.answer.set_exception(error)
                raise
            self._debt_s = time.perf_counter() - began
            self._note(self._debt_s)
            latency_ms = {"preprocess": round(photo.preprocess_ms, 2), "inference": round(self._debt_s * 1000, 2)}
            labels = photo.model.labels
            top = top_k(probabilities, labels)
            photo.answer.set_result(Classification(top, photo.model.name, latency_ms, probabilities, labels))
        self._give_back(photo.model, photo.buffer)

    def _note(self, seconds: float) -> None:
        self._inference_s = max(seconds, MEMORY * self._inference_s)

    def close(self) -> None:
        """Refuse further photos, and cancel those that are waiting."""
        with self._changed:
            self._closed = True
            for photo in self._waiting:
                photo.answer.cancel()

    def _give_back(self, model: Model[_Buffer], buffer: _Buffer) -> None:
        with self._changed:
            if model is self._model:  # buffers of a replaced model are dropped
                self._free.append(buffer)
