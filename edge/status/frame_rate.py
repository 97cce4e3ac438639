"""Measures how many frames are classified a second; the status topic and the page each have a measurement."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 8.0  # long enough for 0.2 frames a second not to read as 0.0


class FrameRate:
    """Frames a second over the last `WINDOW_S`, or over the last two calls of `measure` if they are further apart.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: deque[tuple[float, int]] = deque()

    def measure(self, frames: int) -> float:
        """The rate now, given the number of frames so far; 0.0 at the first call."""
        now = self._clock()
        self._counts.append((now, frames))
        while len(self._counts) > 2 and now - self._counts[1][0] >= WINDOW_S:
            self._counts.popleft()
        began, first = self._counts[0]
        return (frames - first) / (now - began) if now > began else 0.0
