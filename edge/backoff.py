"""How long to wait before the next attempt at something that failed: a camera, a connection to the broker."""

from __future__ import annotations

import random
from collections.abc import Callable

MAX_DOUBLINGS = 16  # 2.0 ** failures stays a finite number, however long the fault lasts


class Backoff:
    """Doubles the wait after each failure, up to a cap, and subtracts a random part of it.

    The random part (jitter) keeps many boxes that lost the same network from coming back at the same moment.

    Args:
        first_s: the longest wait after the first failure.
        cap_s: the longest wait after any number of failures.
        jitter: which part of the wait is random, 0..1; with 1 it may be no wait at all.
        random_share: returns a random number in 0..1; passed in by tests.
    """

    def __init__(
        self, first_s: float, cap_s: float, *, jitter: float = 1.0, random_share: Callable[[], float] = random.random
    ) -> None:
        self._first_s, self._cap_s, self._jitter = first_s, cap_s, jitter
        self._random_share = random_share
        #: Failures since the last `reset`.
        self.failures = 0

    def next_s(self, cap_s: float | None = None) -> float:
        """Count one more failure; returns the seconds to wait after it.

        Args:
            cap_s: another cap for this failure, which is expected to last longer or shorter than others.
        """
        limit = min(self._first_s * 2.0 ** min(self.failures, MAX_DOUBLINGS), self._cap_s if cap_s is None else cap_s)
        self.failures += 1
        return limit * (1.0 - self._jitter * (1.0 - self._random_share()))

    def reset(self) -> None:
        """Start again at the first wait: what failed has worked for a while."""
        self.failures = 0
