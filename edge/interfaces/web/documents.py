"""What `/api/status` and `/api/model` return, for the OpenAPI document.

The routes send the daemon's own documents as they are. A key that is not described here is sent, too.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from edge.vision.manifest import Manifest

Count = Annotated[int, Field(ge=0)]
Sentence = Annotated[str, Field(description="what is wrong and what to do; empty: nothing is")]
OnOrOff = Literal["online", "offline"]


class Percentiles(BaseModel):
    """Of the last 512 latencies of a stage, in milliseconds."""

    p50: float
    p95: float
    p99: float


class _Counters(BaseModel):
    """Since the daemon's start; a counter is there from its first count on."""

    frames_captured: Count = 0
    frames_dropped: Count = 0
    frames_superseded: Count = 0
    frames_unreadable: Count = 0
    frames_classified: Count = 0
    photos_classified: Count = 0
    camera_reopens: Count = 0
    camera_errors: Count = 0
    camera_restarts: Count = 0
    events_made: Count = 0
    events_published: Count = 0
    events_spooled: Count = 0
    events_replayed: Count = 0
    events_refused: Count = 0
    events_unheard: Count = 0
    events_dropped: Count = 0
    broker_connects: Count = 0


class _Totals(BaseModel):
    """Since the box was installed."""

    camera_reopens_total: Count = 0
    camera_restarts_total: Count = 0


class StatusOut(_Counters, _Totals):
    """The daemon's state: gauges, counters and latencies. What is not known yet is missing."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    device: str = ""
    version: str = ""
    board: str = ""
    boot: str = Field("", description="first 8 digits of the kernel's boot id")
    model: str = Field("", description="the bundle in use")
    camera: Literal["waiting", "online", "ended"] = "waiting"
    camera_source: str = Field("", description="the camera or file, without its password")
    camera_size: tuple[int, int] | None = Field(None, description="width and height of its frames")
    camera_error: Sentence = ""
    frames_per_s: float = Field(description="classified, as the page measures them")
    fps: float = Field(0.0, description="classified, since the last entry of the status topic")
    slowed_because: Sentence = ""
    overrides: dict[str, float] = Field({}, description="settings that a request has changed until the next reload")
    photos_waiting: Count = 0
    broker: OnOrOff = "offline"
    broker_error: Sentence = ""
    broker_limits: Sentence = ""
    unheard: Sentence = ""
    discovery_error: Sentence = ""
    outbox_events: Count = Field(0, description="events in memory that neither the broker nor the disk has taken yet")
    log_depth: Count = Field(0, description="events in the fallback log")
    log_bytes: Count = 0
    log_used_percent: float = Field(0.0, ge=0, description="of the fallback log's largest size")
    log_error: Sentence = ""
    web: str = Field("off", description="the page's address, or off")
    web_error: Sentence = ""
    time_synced: bool = Field(False, description="whether the clock is set")
    uptime_s: float = Field(0.0, description="of the machine")
    temperature_celsius: float | None = Field(None, description="of the processor; null: the board does not measure it")
    throttled: bool | None = None
    under_voltage: bool | None = None
    memory_bytes: Count | None = None
    disk_bytes_written: Count | None = None
    latency_ms: dict[str, Percentiles] = Field(description="by stage: capture, preprocess, inference, delivery")


class ModelOut(Manifest):
    """The bundle in use: its `bundle.json`, its name and its number of classes."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(examples=["resnet18-int8-3fa9c1"])
    classes: int = Field(ge=2)
