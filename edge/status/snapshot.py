"""The daemon's health in one thread-safe object, which MQTT, the page, the metrics and the watchdog read."""

from __future__ import annotations

import bisect
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

LATENCY_WINDOW = 512  # observations kept for each stage: enough for a p99, 4 kB
LATENCY_BOUNDS_MS = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0)  # of the histograms

# Gauges that hold a sentence.
FAULTS = ("camera_error", "broker_error", "discovery_error", "log_error", "web_error", "slowed_because")


@dataclass(slots=True)
class Latencies:
    """Latencies of one stage."""

    recent: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))
    # Since the start, for a Prometheus histogram: a count for each of LATENCY_BOUNDS_MS, and one above the last.
    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_MS) + 1))
    sum_ms: float = 0.0

    def percentiles(self) -> dict[str, float]:
        """p50, p95 and p99 of the recent ones, by nearest rank: no interpolation between two latencies."""
        ordered = sorted(self.recent)
        last = len(ordered) - 1
        return {f"p{p}": round(ordered[min(last, int(len(ordered) * p / 100))], 2) for p in (50, 95, 99)}


@dataclass(frozen=True, slots=True)
class StatusSnapshot:
    """A consistent copy: counters only grow during a run, gauges are current values."""

    counters: Mapping[str, int]
    gauges: Mapping[str, Any]
    latency_ms: Mapping[str, Mapping[str, float]]  # stage → {"p50", "p95", "p99"}
    latencies: Mapping[str, Latencies] = field(default_factory=dict)  # by stage

    def to_dict(self) -> dict[str, Any]:
        """The snapshot as JSON types, gauges and counters side by side."""
        return {**self.gauges, **self.counters, "latency_ms": {k: dict(v) for k, v in self.latency_ms.items()}}

    def to_line(self) -> str:
        """The snapshot in one line, for `systemctl status`."""
        parts = [f"camera {self.gauges.get('camera', 'starting')}", f"broker {self.gauges.get('broker', 'starting')}"]
        if "inference" in self.latency_ms:
            parts.append(f"inference {self.latency_ms['inference']['p50']:.0f} ms")
        parts.append(f"{self.counters.get('events_made', 0)} events")
        if depth := self.gauges.get("log_depth"):
            parts.append(f"{depth} waiting in the fallback log")
        if overrides := self.gauges.get("overrides"):
            changed = " and ".join(f"{key} = {value:g}" for key, value in overrides.items())
            parts.append(f"{changed} by a request, until the next reload")
        faults = [str(self.gauges[key]) for key in FAULTS if self.gauges.get(key)]
        return ", ".join(parts) + ("" if not faults else " | " + " | ".join(faults))


@dataclass(slots=True)
class _Beat:
    limit_s: float
    last: float


class Status:
    """Counters, gauges, stage latencies and heartbeats of threads; every method may be called from any thread.

    Args:
        clock: monotonic seconds; passed in so that tests control the time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counters: Counter[str] = Counter()
        self._gauges: dict[str, Any] = {}
        self._latencies: dict[str, Latencies] = {}
        self._beats: dict[str, _Beat] = {}

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter, such as `frames_dropped`."""
        with self._lock:
            self._counters[name] += amount

    def gauge(self, **values: Any) -> None:
        """Set current values, such as `broker="online"`; values are JSON types."""
        with self._lock:
            self._gauges.update(values)

    def observe(self, stage: str, milliseconds: float) -> None:
        """Remember one latency of a stage."""
        with self._lock:
            seen = self._latencies.setdefault(stage, Latencies())
            seen.recent.append(milliseconds)
            seen.counts[bisect.bisect_left(LATENCY_BOUNDS_MS, milliseconds)] += 1
            seen.sum_ms += milliseconds

    def watch(self, stage: str, limit_s: float) -> None:
        """From now on `stage` has to call `beat` at least every `limit_s` seconds."""
        with self._lock:
            self._beats[stage] = _Beat(limit_s, self._clock())

    def unwatch(self, stage: str) -> None:
        """The stage has ended normally and need not beat any more."""
        with self._lock:
            self._beats.pop(stage, None)

    def beat(self, stage: str) -> None:
        """The stage is alive: it works, or it waits for input, for however long."""
        with self._lock:
            if (beat := self._beats.get(stage)) is not None:
                beat.last = self._clock()

    def overdue(self) -> dict[str, float]:
        """The stages whose last beat is older than their limit, each with its age in seconds."""
        with self._lock:
            now = self._clock()
            return {name: now - b.last for name, b in self._beats.items() if now - b.last > b.limit_s}

    def snapshot(self) -> StatusSnapshot:
        """A copy that does not change any more."""
        with self._lock:
            counters, gauges = dict(self._counters), dict(self._gauges)
            latencies = {k: Latencies(v.recent.copy(), [*v.counts], v.sum_ms) for k, v in self._latencies.items()}
        return StatusSnapshot(counters, gauges, {k: v.percentiles() for k, v in latencies.items()}, latencies)
