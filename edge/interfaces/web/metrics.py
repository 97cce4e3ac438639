"""`/metrics`: the status snapshot in Prometheus' words, read when it is scraped."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from edge.interfaces.web.view import View
from edge.status.snapshot import LATENCY_BOUNDS_MS, Histogram, StatusSnapshot

PREFIX = "edge_classifier_"
# counter of the status → (metric, help)
COUNTERS = {
    "frames_captured": ("frames_captured", "Frames that the camera delivered"),
    "frames_dropped": ("frames_dropped", "Frames that a newer one replaced before they were taken"),
    "frames_superseded": ("frames_superseded", "Prepared frames that a newer one replaced before inference"),
    "frames_unreadable": ("frames_unreadable", "Frames that arrived damaged"),
    "frames_classified": ("frames_classified", "Frames that the model saw"),
    "photos_classified": ("photos_classified", "Photos that people sent and the model saw"),
    "camera_reopens": ("camera_reopens", "Times that the camera was opened again"),
    "camera_errors": ("camera_errors", "Times that the camera failed"),
    "events_made": ("events_made", "Events that were made"),
    "events_published": ("events_published", "Events that the broker acknowledged on the event topic"),
    "events_spooled": ("events_spooled", "Events that went to the fallback log"),
    "events_replayed": ("events_replayed", "Events of the fallback log that the broker acknowledged"),
    "events_refused": ("events_refused", "Events that the broker refused"),
    "events_dropped": ("events_dropped", "Events lost because the fallback log was full or damaged, ever"),
    "broker_connects": ("broker_connects", "Connections to the broker that succeeded"),
}
# gauge of the status → (metric, help)
GAUGES = {
    "temperature_celsius": ("temperature_celsius", "Temperature of the processor"),
    "outbox_events": ("outbox_events", "Events in memory that neither the broker nor the disk has taken yet"),
    "photos_waiting": ("photos_waiting", "Photos that wait for the model"),
    "log_depth": ("fallback_log_events", "Events that wait in the fallback log"),
    "log_bytes": ("fallback_log_bytes", "Bytes of the fallback log"),
    "uptime_s": ("host_uptime_seconds", "Seconds since the machine started"),
}


class StatusCollector(Collector):
    """Reads the status snapshot for each scrape.

    Args:
        view: whose status.
    """

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        """Every metric of the snapshot."""
        snapshot = self._view.status()
        for key, (name, text) in COUNTERS.items():
            yield CounterMetricFamily(PREFIX + name, text, snapshot.counters.get(key, 0))
        written = snapshot.gauges.get("disk_bytes_written")
        if isinstance(written, (int, float)):
            yield CounterMetricFamily(PREFIX + "disk_written_bytes", "Bytes this process wrote to disk", written)
        for key, (name, text) in GAUGES.items():
            value = snapshot.gauges.get(key)
            if isinstance(value, (int, float)):
                yield GaugeMetricFamily(PREFIX + name, text, value)
        yield from _states(snapshot)
        yield _latencies(snapshot)
        yield InfoMetricFamily(PREFIX + "build", "What runs here", self._build(snapshot))

    def _build(self, snapshot: StatusSnapshot) -> dict[str, str]:
        told = {key: str(snapshot.gauges.get(key, "")) for key in ("version", "device", "board")}
        return told | {"model": str(self._view.model()["name"])}


def _states(snapshot: StatusSnapshot) -> Iterator[Metric]:
    gauges = snapshot.gauges
    for name, text, value in (
        ("camera_online", "1 while the camera delivers", gauges.get("camera") == "online"),
        ("broker_online", "1 while the broker is connected", gauges.get("broker") == "online"),
        ("clock_synchronised", "1 once the clock is set", bool(gauges.get("time_synced"))),
    ):
        yield GaugeMetricFamily(PREFIX + name, text, float(value))
    for name, text in (
        ("throttled", "1 while the board runs slower because of heat or too little power"),
        ("under_voltage", "1 while the board gets too little power"),
    ):
        if gauges.get(name) is not None:  # not every board can tell
            yield GaugeMetricFamily(PREFIX + name, text, float(bool(gauges[name])))


def _latencies(snapshot: StatusSnapshot) -> Metric:
    family = HistogramMetricFamily(
        PREFIX + "stage_latency_seconds", "Time that a frame spends in a stage", labels=["stage"]
    )
    for stage, histogram in sorted(snapshot.histograms.items()):
        family.add_metric([stage], _cumulative(histogram), histogram.sum_ms / 1000)
    return family


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [f"{bound / 1000:g}" for bound in LATENCY_BOUNDS_MS] + ["+Inf"]
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip(bounds, histogram.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets


def make_registry(view: View) -> CollectorRegistry:
    """A registry of this app's own: memory and CPU of the process, and the status."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(StatusCollector(view))
    return registry
