"""Turns a decision about a frame into an `Event`: adds the device, the times and the id."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from edge.board import host
from edge.decision.decider import Decision
from edge.events import Event, event_ids, isoformat_utc


class EventMaker:
    """Makes events with the device's name, their times and an id whose counter has no gaps.

    Args:
        device: the name in `[device]`.
        boot: the first 8 hex digits of the boot id.
        monotonic_ns: the clock of the frames.
        wall_s: Unix time.
        uptime_s: seconds since boot.
        synchronised: whether the wall clock is right.
    """

    def __init__(
        self,
        device: str,
        boot: str,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_s: Callable[[], float] = time.time,
        uptime_s: Callable[[], float] = host.uptime_s,
        synchronised: Callable[[], bool] = host.clock_synchronised,
    ) -> None:
        self._device, self._boot = device, boot
        self._monotonic_ns, self._wall_s, self._uptime_s = monotonic_ns, wall_s, uptime_s
        self._synchronised = synchronised
        self._ids = event_ids(device, boot, int(uptime_s() * 1000))

    def make(self, decision: Decision, model: str, captured_ns: int, latency_ms: Mapping[str, float]) -> Event:
        """The event of a decision about a frame captured at `captured_ns` (monotonic)."""
        # A video file read faster than it plays has frame times in the future; an event's time must not be.
        age_s = max(0, self._monotonic_ns() - captured_ns) / 1e9
        return Event(
            id=next(self._ids),
            device=self._device,
            reason=decision.reason,
            time=isoformat_utc(self._wall_s() - age_s),
            time_synced=self._synchronised(),
            boot=self._boot,
            uptime_s=round(self._uptime_s() - age_s, 3),
            label=decision.label,
            top=decision.top,
            model=model,
            latency_ms={stage: round(value, 1) for stage, value in latency_ms.items()},
        )
