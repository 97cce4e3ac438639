"""When to try the broker again: exponential, with full jitter and a cap."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_S = 0.5
CAP_S = 4.0  # live events flow again within 5 s of the broker's return
DENIED_CAP_S = 60.0  # a wrong password or a stolen client id does not mend itself in seconds


class Backoff:
    """Grows with each failure, starts afresh after a success.

    Args:
        uniform: a random number between its two arguments; passed in by tests.
    """

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._failures = 0

    def succeeded(self) -> None:
        """The broker does its work again."""
        self._failures = 0

    def next_s(self, denied: bool) -> float:
        """Seconds to wait after one more failure.

        Full jitter (between nothing and the limit), so that a thousand boxes do not come back as one.
        """
        limit = min(FIRST_S * 2.0**self._failures, DENIED_CAP_S if denied else CAP_S)
        self._failures = min(self._failures + 1, 16)
        return self._uniform(0.0, limit)
