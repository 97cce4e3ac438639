"""Queues the signals that the daemon handles, so that the main loop takes them one at a time."""

from __future__ import annotations

import queue
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Signals:
    """A queue of signal numbers. The handler only calls SimpleQueue.put, which is reentrant; Event.set is not."""

    def __init__(self) -> None:
        self._numbers: queue.SimpleQueue[int] = queue.SimpleQueue()

    @contextmanager
    def handled(self, *numbers: signal.Signals) -> Iterator[None]:
        """Handle these signals inside the `with` block, then restore the previous handlers; main thread only."""
        before = {number: signal.signal(number, lambda n, _frame: self.put(n)) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def put(self, number: int) -> None:
        """Act as if the signal had arrived; callable from any thread."""
        self._numbers.put(number)

    def get(self, timeout_s: float) -> int | None:
        """The next signal number, or None after `timeout_s`."""
        try:
            return self._numbers.get(timeout=timeout_s)
        except queue.Empty:
            return None
