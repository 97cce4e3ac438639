"""What signals do: while the daemon starts they end it, and later the main loop takes them one at a time."""

from __future__ import annotations

import queue
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ending_at_once(*signals: signal.Signals) -> Iterator[None]:
    """Let these signals end the process inside the `with` block, whatever it does; main thread only."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_queued(numbers: queue.SimpleQueue[int], *signals: signal.Signals) -> Iterator[None]:
    """Put these signals' numbers into the queue inside the `with` block, then restore the handlers; main thread only.

    The handler only calls SimpleQueue.put, which is reentrant; Event.set is not.
    """
    before = {number: signal.signal(number, lambda n, _frame: numbers.put(n)) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
