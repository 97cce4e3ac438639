"""`/metrics`: the status as Prometheus metrics. To add one: a line in `COUNTERS` or `GAUGES`."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import anyio
import anyio.to_thread
from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.problem_details import documented
from edge.interfaces.web.refusals import Refusals
from edge.status.snapshot import LATENCY_BOUNDS_MS, StatusSnapshot

PREFIX = "edge_classifier_"
# Counters of the status, which the metrics are named after.
COUNTERS = {
    "frames_captured": "Frames that the camera delivered",
    "frames_dropped": "Frames that a newer one replaced before they were taken",
    "frames_superseded": "Prepared frames that a newer one replaced before inference",
    "frames_unreadable": "Frames that arrived damaged",
    "frames_classified": "Frames that were classified",
    "photos_classified": "Photos that were sent in and classified",
    "camera_reopens": "Times that the camera was opened again",
    "camera_errors": "Times that the camera failed",
    "events_made": "Events that were made",
    "events_published": "Events that the broker acknowledged on the event topic",
    "events_spooled": "Events that went to the fallback log",
    "events_replayed": "Events of the fallback log that the broker acknowledged",
    "events_refused": "Events that the broker refused",
    "events_unheard": "Events that the broker acknowledged although nobody subscribes to their topic",
    "events_dropped": "Events lost because the fallback log was full or damaged, ever",
    "broker_connects": "Connections to the broker that succeeded",
}
# metric → (help, its value from the status's gauges); what is neither a number nor a boolean is left out.
GAUGES: dict[str, tuple[str, Callable[[Mapping[str, Any]], object]]] = {
    "temperature_celsius": ("Temperature of the processor", lambda g: g.get("temperature_celsius")),
    "outbox_events": (
        "Events in memory that neither the broker nor the disk has taken yet",
        lambda g: g.get("outbox_events"),
    ),
    "photos_waiting": ("Photos that wait for the model", lambda g: g.get("photos_waiting")),
    "fallback_log_events": ("Events that wait in the fallback log", lambda g: g.get("log_depth")),
    "fallback_log_bytes": ("Bytes of the fallback log", lambda g: g.get("log_bytes")),
    "fallback_log_used_ratio": (
        "Part of the fallback log's limit that is in use; at 1 the oldest events are dropped",
        lambda g: g["log_used_percent"] / 100 if "log_used_percent" in g else None,
    ),
    "host_uptime_seconds": ("Seconds since the machine started", lambda g: g.get("uptime_s")),
    "camera_online": ("1 while the camera delivers frames", lambda g: g.get("camera") == "online"),
    "broker_online": ("1 while the broker is connected", lambda g: g.get("broker") == "online"),
    "clock_synchronised": ("1 once the clock is set", lambda g: bool(g.get("time_synced"))),
    # None on a board that cannot measure it.
    "throttled": ("1 while the board runs slower because of heat or too little power", lambda g: g.get("throttled")),
    "under_voltage": ("1 while the board gets too little power", lambda g: g.get("under_voltage")),
}


class StatusCollector(Collector):
    """Reads the status for each scrape.

    Args:
        daemon: source of the status, the events and the model's name.
        requests: (route, method, status) → requests that were answered so.
        refusals: source of what was refused.
    """

    def __init__(self, daemon: DaemonAccess, requests: Counter[tuple[str, ...]], refusals: Refusals) -> None:
        self._daemon, self._requests, self._refusals = daemon, requests, refusals

    def collect(self) -> Iterator[Metric]:
        """Every metric of the status."""
        snapshot = self._daemon.status()
        for name, text in COUNTERS.items():
            yield CounterMetricFamily(PREFIX + name, text, snapshot.counters.get(name, 0))
        written = snapshot.gauges.get("disk_bytes_written")
        if isinstance(written, (int, float)):
            yield CounterMetricFamily(PREFIX + "disk_written_bytes", "Bytes this process wrote to disk", written)
        for name, (text, read) in GAUGES.items():
            value = read(snapshot.gauges)
            if isinstance(value, (int, float)):
                yield GaugeMetricFamily(PREFIX + name, text, float(value))
        yield _latencies(snapshot)
        yield _counter("events_by_label", "Events of this run", ("label", "reason"), self._daemon.recent.counts())
        # In one step, because the event loop goes on counting.
        yield _counter("http_requests", "Answered requests", ("route", "method", "status"), dict(self._requests))
        refused: dict[tuple[str, ...], int] = {(reason,): count for reason, count in self._refusals.counts().items()}
        yield _counter("http_refusals", "Connections and requests that were refused", ("reason",), refused)
        build = {key: str(snapshot.gauges.get(key, "")) for key in ("version", "device", "board")}
        build["model"] = str(self._daemon.model()["name"])
        yield InfoMetricFamily(PREFIX + "build", "What runs here", build)


def _counter(name: str, text: str, labels: tuple[str, ...], counts: Mapping[tuple[str, ...], int]) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for values, count in sorted(counts.items()):
        family.add_metric(values, count)
    return family


def _latencies(snapshot: StatusSnapshot) -> Metric:
    family = HistogramMetricFamily(
        PREFIX + "stage_latency_seconds", "Time that a frame spends in a stage", labels=["stage"]
    )
    bounds = [f"{bound / 1000:g}" for bound in LATENCY_BOUNDS_MS] + ["+Inf"]
    for stage, histogram in sorted(snapshot.latencies.items()):
        cumulative = zip(bounds, itertools.accumulate(histogram.counts), strict=True)
        family.add_metric([stage], list(cumulative), histogram.sum_ms / 1000)
    return family


def make_router(daemon: DaemonAccess, requests: Counter[tuple[str, ...]], refusals: Refusals) -> APIRouter:
    """The route of `/metrics`: the status, the requests, and the memory and CPU of the process."""
    registry = CollectorRegistry(auto_describe=False)  # prometheus_client's global one is the same for every server
    ProcessCollector(registry=registry)
    registry.register(StatusCollector(daemon, requests, refusals))
    router = APIRouter()
    # Of its own, so that a monitor is answered while clients keep the other threads busy.
    thread = anyio.CapacityLimiter(1)

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        tags=["health"],
        response_class=PlainTextResponse,
        responses=documented(401, 403),
    )
    async def metrics() -> Response:
        content = await anyio.to_thread.run_sync(generate_latest, registry, limiter=thread)
        return Response(content, media_type=CONTENT_TYPE_LATEST)

    return router
