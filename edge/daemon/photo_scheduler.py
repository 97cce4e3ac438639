"""Photos that people send, classified between two frames without taking the camera's share."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge.errors import BusyError
from edge.events import Classification, Probabilities, top_k
from edge.frames import Pixels
from edge.vision.model import Model

# While frames leave the inference thread no rest, photos get this share of their time: 1 / 1.15 of the frame
# rate is 87 %, of which 80 % are promised.
SHARE_OF_BUSY_TIME = 0.15
MEMORY = 0.8  # of the frames before the last one, in their mean distance
_Buffer = TypeVar("_Buffer")


@dataclass(slots=True)
class _Waiting(Generic[_Buffer]):
    model: Model[_Buffer]
    buffer: _Buffer
    preprocess_ms: float
    answer: Future[Classification]


class FrameRhythm:
    """When the next frame is due, judged by when the last ones came; seconds of one clock."""

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._apart_s = 0.0

    def came(self, now_s: float) -> None:
        """A frame is ready to be classified."""
        if self._last_s is not None:
            apart_s = now_s - self._last_s
            self._apart_s = MEMORY * self._apart_s + (1 - MEMORY) * apart_s if self._apart_s else apart_s
        self._last_s = now_s

    def busy_for_s(self, now_s: float, needs_s: float) -> float:
        """Seconds until something that takes `needs_s` may begin and make no frame wait.

        Nothing is in the way of it when frames do not come, and nothing can be done where there is no gap to fit in.
        """
        if self._last_s is None or self._apart_s < 3 * needs_s:
            return 0.0
        due_s = self._last_s + self._apart_s
        begin_s, end_s = due_s - 1.5 * needs_s, due_s + 0.5 * needs_s  # neither is known exactly
        return end_s - now_s if begin_s < now_s < end_s else 0.0


class PhotoScheduler(Generic[_Buffer]):
    """A bounded queue from many threads to the one that infers.

    A photo's inference is a debt to the camera. Idle time pays it back in full, frames pay a share, and the
    next photo waits until it is paid. Just before a frame is due, no photo begins that it would have to wait for.

    Args:
        model: prepares photos, in the asking thread, and answers them.
        places: how many photos may wait.
        changed: the condition that wakes the inference thread; its lock guards the queue.
        tell: is told how many wait, whenever that changes; must not block.
    """

    def __init__(
        self,
        model: Model[_Buffer],
        places: int,
        changed: threading.Condition,
        tell: Callable[[int], object] = lambda waiting: None,
    ) -> None:
        self._model, self._places, self._tell = model, places, tell
        self._free = self.new_buffers(model)
        self._changed = changed
        self._waiting: deque[_Waiting[_Buffer]] = deque()
        self._debt_s = 0.0
        self._rhythm = FrameRhythm()
        self._inference_s = 0.0  # the longest of late
        self._closed = False

    def new_buffers(self, model: Model[_Buffer]) -> list[_Buffer]:
        """As many as may wait."""
        return [model.new_input() for _ in range(self._places)]

    def swap(self, model: Model[_Buffer], free: list[_Buffer]) -> None:
        """Photos that come from now on are for `model`, in its `new_buffers`; the one before answers what waits."""
        with self._changed:
            self._model, self._free = model, free

    def put(self, pixels: Pixels) -> Future[Classification]:
        """Ask for one photo, (height, width, 3) uint8 RGB; any thread.

        Raises:
            BusyError: all buffers are in use, or the daemon stops.
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
        waiting = _Waiting(model, buffer, (time.perf_counter() - began) * 1000, Future())
        with self._changed:
            if self._closed:
                waiting.answer.cancel()
            self._waiting.append(waiting)
            self._tell(len(self._waiting))
            self._changed.notify_all()
        return waiting.answer

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def wait_s(self) -> float | None:
        """Seconds of idle time after which the next photo may be served; None where none waits."""
        if not self._waiting:
            return None
        return max(self._debt_s, self._rhythm.busy_for_s(time.perf_counter(), self._inference_s))

    def frame_came(self) -> None:
        """A frame is ready to be classified."""
        self._rhythm.came(time.perf_counter())

    def frame_took(self, seconds: float) -> None:
        """A frame was classified."""
        self._note(seconds)
        self._debt_s = max(0.0, self._debt_s - seconds * SHARE_OF_BUSY_TIME)

    def idled(self, seconds: float) -> None:
        """The inference thread had nothing else to do."""
        self._debt_s = max(0.0, self._debt_s - seconds)

    def serve(self, infer: Callable[[Model[_Buffer], _Buffer], Probabilities]) -> None:
        """Classify one photo, if one waits and the last is paid back; the inference thread."""
        with self._changed:
            if self.wait_s != 0:
                return
            photo = self._waiting.popleft()
            self._tell(len(self._waiting))
        if photo.answer.set_running_or_notify_cancel():
            began = time.perf_counter()
            try:
                probabilities = infer(photo.model, photo.buffer)
            except BaseException as error:
                photo.answer.set_exception(error)
                raise
            self._debt_s = time.perf_counter() - began
            self._note(self._debt_s)
            latency_ms = {"preprocess": round(photo.preprocess_ms, 2), "inference": round(self._debt_s * 1000, 2)}
            top = top_k(probabilities, photo.model.labels)
            photo.answer.set_result(Classification(top, photo.model.name, latency_ms))
        self._give_back(photo.model, photo.buffer)

    def _note(self, seconds: float) -> None:
        self._inference_s = max(seconds, MEMORY * self._inference_s)

    def close(self) -> None:
        """Take no more, and cancel what waits."""
        with self._changed:
            self._closed = True
            for photo in self._waiting:
                photo.answer.cancel()

    def _give_back(self, model: Model[_Buffer], buffer: _Buffer) -> None:
        with self._changed:
            if model is self._model:  # another model's buffers are of no use any more
                self._free.append(buffer)
