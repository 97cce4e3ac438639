"""Times inferences in a round that takes its turn with those of other models."""

from __future__ import annotations

import time
from collections.abc import Callable

AWAKE = 3  # inferences before those that are measured: the caches hold what another model left there


def inference_ms(infer: Callable[[], object], seconds: float, least: int) -> list[float]:
    """Milliseconds of each call of `infer` in so many seconds, but of at least `least` calls."""
    times: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until or len(times) < AWAKE + least:
        began = time.perf_counter_ns()
        infer()
        times.append((time.perf_counter_ns() - began) / 1e6)
    return times[AWAKE:]
