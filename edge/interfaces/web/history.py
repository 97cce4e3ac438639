"""The last hour of latencies, temperatures and frame rates, and when the camera was away, for the page's plots."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from edge.status.frame_rate import FrameRate
from edge.status.snapshot import StatusSnapshot

SAMPLE_S = 1.0
EVERY_S = 10.0 - SAMPLE_S / 2
KEPT = 360  # an hour
KEPT_ABSENCES = 512


class History:
    """Samples the status, in the thread "web".

    Args:
        status: returns the status at this moment.
        wall_s: Unix time.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        status: Callable[[], StatusSnapshot],
        wall_s: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._status, self._wall_s, self._clock = status, wall_s, clock
        self._points: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._away: deque[dict[str, float | None]] = deque(maxlen=KEPT_ABSENCES)
        self._rate = FrameRate(clock)
        self._next_point = clock()
        self.frames_per_s = 0.0

    def sample(self) -> None:
        """Take a sample; to be called every `SAMPLE_S`."""
        snapshot = self._status()
        self.frames_per_s = round(self._rate.measure(snapshot.counters.get("frames_classified", 0)), 1)
        self._note_camera(snapshot)
        if self._clock() >= self._next_point:
            self._next_point = self._clock() + EVERY_S
            self._add_point(snapshot)

    def _note_camera(self, snapshot: StatusSnapshot) -> None:
        # While the camera does not deliver, the last label does not apply.
        online = snapshot.gauges.get("camera") == "online"
        gone = bool(self._away) and self._away[-1]["until"] is None
        if gone and online:
            self._away[-1]["until"] = round(self._wall_s(), 1)
        elif not gone and not online:
            self._away.append({"since": round(self._wall_s(), 1), "until": None})

    def _add_point(self, snapshot: StatusSnapshot) -> None:
        inference = snapshot.latency_ms.get("inference", {})
        self._points.append(
            {
                "time": round(self._wall_s(), 1),
                "inference_ms": inference.get("p50"),
                "inference_p99_ms": inference.get("p99"),
                "temperature_celsius": snapshot.gauges.get("temperature_celsius"),
                "frames_per_s": self.frames_per_s,
            }
        )

    def status_document(self) -> dict[str, Any]:
        """The current status as JSON types, with `frames_per_s`."""
        return self._status().to_dict() | {"frames_per_s": self.frames_per_s}

    def points(self) -> list[dict[str, Any]]:
        """The last hour, oldest first."""
        return list(self._points)

    def away(self) -> list[dict[str, float | None]]:
        """When the camera delivered nothing, in Unix time, oldest first; `until` is None if it still does not."""
        return list(self._away)
