"""The signals that the daemon heeds, one after the other."""

from __future__ import annotations

import queue
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Signals:
    """A handler only puts the number on a queue: SimpleQueue.put is reentrant, Event.set is not."""

    def __init__(self) -> None:
        self._numbers: queue.SimpleQueue[int] = queue.SimpleQueue()

    @contextmanager
    def handled(self, *numbers: signal.Signals) -> Iterator[None]:
        """Take the signals over; the handlers before come back afterwards. In the main thread alone."""
        before = {number: signal.signal(number, lambda n, _frame: self.put(n)) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def put(self, number: int) -> None:
        """As if the signal had come; any thread."""
        self._numbers.put(number)

    def get(self, timeout_s: float) -> int | None:
        """The next signal, or None where none came in time."""
        try:
            return self._numbers.get(timeout=timeout_s)
        except queue.Empty:
            return None
