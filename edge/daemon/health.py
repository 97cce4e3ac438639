"""What the main loop measures every few seconds: frame rate, clock, board, and counters that outlive a run.

The readings become gauges of the status. A board that is hot or short of power gets a lower frame rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from edge.board import host
from edge.board.throttling import FrameRateGovernor
from edge.status.counters import PersistentCounters
from edge.status.frame_rate import FrameRate
from edge.status.snapshot import Status

EVERY_S = 5.0
# Counters whose totals are kept across restarts.
LASTING = ("camera_reopens", "camera_restarts")


class Health:
    """Measures when `tick` is called, at most every `EVERY_S`; used by the main loop only.

    Args:
        status: gets the readings as gauges, and `<name>_total` for each counter in `LASTING`.
        counters_file: where those totals outlive a restart.
        limit_fps: called with the highest frame rate that the board can sustain, whenever it changes; 0: no limit.
        on_synchronised: called with wall clock − uptime, in seconds, at each reading with a synchronised clock.
        root: the directory that holds /proc and /sys.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        status: Status,
        counters_file: Path,
        *,
        limit_fps: Callable[[float], None],
        on_synchronised: Callable[[float], None],
        root: Path = host.ROOT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._status = status
        self._counters = PersistentCounters(counters_file, LASTING, clock)
        self._governor = FrameRateGovernor()
        self._limit_fps = limit_fps
        self._on_synchronised = on_synchronised
        self._root = root
        self._clock = clock
        self._read_at = clock()
        self._frame_rate = FrameRate(clock)  # from the first `tick` on: before, the model loads and there are no frames

    def save(self) -> None:
        """Write the lasting counters now, because the process is about to end."""
        self._count()
        self._counters.save()

    def tick(self) -> None:
        """Measure if `EVERY_S` have passed since the last time."""
        now = self._clock()
        if now - self._read_at < EVERY_S:
            return
        self._read_at = now
        fps = self._frame_rate.measure(self._status.snapshot().counters.get("frames_classified", 0))
        synchronised = host.clock_synchronised()
        if synchronised:
            self._on_synchronised(time.time() - host.uptime_s())
        limit, strain = self._governor.fps_limit, host.strain(self._root)
        self._governor.update(now, strain, fps)
        if self._governor.fps_limit != limit:
            self._limit_fps(self._governor.fps_limit)
        self._status.gauge(
            fps=round(fps, 2),
            time_synced=synchronised,
            uptime_s=round(host.uptime_s(), 1),
            temperature_celsius=strain.temperature_celsius,
            throttled=strain.throttled,
            under_voltage=strain.under_voltage,
            slowed_because=self._governor.reason,
            memory_bytes=host.memory_bytes(self._root),
            disk_bytes_written=host.disk_bytes_written(self._root),
        )
        self._count()

    def _count(self) -> None:
        self._counters.follow(self._status.snapshot().counters)
        self._status.gauge(**{f"{name}_total": total for name, total in self._counters.totals.items()})
