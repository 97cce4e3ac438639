"""What several threads that infer at the same time need: the order of their frames, and moments without inference."""

from __future__ import annotations

import threading
from collections.abc import Sequence


class FrameOrder:
    """Frames are numbered when they are taken, and each thread waits after its inference until its frame is next.

    So at most one frame per thread is under way, and what follows the inference runs in one thread at a time.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = 0
        self._finished = 0
        self._broken = False

    def take(self) -> int:
        """The number of the frame that is being taken; the caller makes sure that only one thread takes one."""
        self._taken += 1
        return self._taken - 1

    def wait(self, number: int) -> bool:
        """Wait for the turn of a frame; returns whether it came. False: an earlier frame will never be finished."""
        with self._changed:
            self._changed.wait_for(lambda: self._finished == number or self._broken)
            return self._finished == number

    def finish(self) -> None:
        """Let the next frame have its turn."""
        with self._changed:
            self._finished += 1
            self._changed.notify_all()

    def abandon(self) -> None:
        """End all waiting, now and later: a thread has ended before it finished its frame."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()


class EveryLock:
    """A context manager that holds all of some locks, each of which is held during one thread's inferences."""

    def __init__(self, locks: Sequence[threading.Lock]) -> None:
        self._locks = locks

    def __enter__(self) -> None:
        for lock in self._locks:
            lock.acquire()

    def __exit__(self, *_: object) -> None:
        for lock in self._locks:
            lock.release()
