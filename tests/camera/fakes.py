"""Cameras that a test controls step by step; they implement `Source` and are passed in."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import numpy as np

from edge.camera.geometry import FrameBuffers
from edge.camera.source import UnreadablePictureError
from edge.errors import CameraError
from edge.frames import Pixels
from edge.settings.schema import CameraSettings

Shot = int | Exception | None  # a grey level, an error, or None at the end


class Clock:
    """A clock that the test advances."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeCamera:
    """Delivers what the test puts into `shots`, one at a time, and records the calls."""

    def __init__(self, *, live: bool = True, fps: float = 10.0, size: tuple[int, int] = (8, 6)) -> None:
        self.name = "fake:0"
        self.live = live
        self.moment_s = 0.0
        self._step_s = 0.0 if live else 1 / fps
        self._grabbed = 0
        self.size = size
        self.shots: queue.Queue[Shot] = queue.Queue()
        self.open_errors: list[CameraError] = []
        self.opened = self.closed = 0
        self.retrieved = threading.Semaphore(0)
        self.block_in: str = ""  # "open", "grab" or "close" does not return until `unblock` is set
        self.blocked = threading.Event()
        self.unblock = threading.Event()
        self.lent: list[int] = []  # the address of each buffer that a picture was written to
        self._shot: Shot = None

    def __call__(self, settings: CameraSettings) -> FakeCamera:
        """Serves as the `make` of a Capture."""
        return self

    def show(self, *shots: Shot) -> None:
        for shot in shots:
            self.shots.put(shot)

    def open(self) -> None:
        self._block("open")
        self.opened += 1
        if self.open_errors:
            raise self.open_errors.pop(0)

    def grab(self) -> bool:
        self._block("grab")
        while True:
            try:
                self._shot = self.shots.get(timeout=0.05)
                break
            except queue.Empty:
                if self.unblock.is_set():  # the test is over
                    raise CameraError("The fake camera was switched off.") from None
        if isinstance(self._shot, Exception) and not isinstance(self._shot, UnreadablePictureError):
            raise self._shot
        self.moment_s = self._grabbed * self._step_s
        self._grabbed += 1
        return self._shot is not None

    def retrieve(self, buffers: FrameBuffers) -> Pixels:
        try:
            if isinstance(self._shot, Exception):
                raise self._shot
            pixels = buffers.borrow(self.size[1], self.size[0])
            pixels[:] = self._shot
            self.lent.append(pixels.ctypes.data)
            return pixels
        finally:
            self.retrieved.release()

    def close(self) -> None:
        self._block("close")
        self.closed += 1

    def _block(self, where: str) -> None:
        if self.block_in == where:
            self.blocked.set()
            self.unblock.wait(60)


def grey(pixels: Pixels) -> int:
    """The grey level of a uniform picture; fails if the picture was overwritten meanwhile."""
    level = int(pixels.flat[0])
    assert np.all(pixels == level), "a frame changed in its consumer's hands"
    return level


Eventually = Callable[[Callable[[], bool]], None]
