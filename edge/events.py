"""What the box reports about a frame: labels, predictions and events, and how an event is written as JSON.

`Event` and `Label` are the only definition of an event: MQTT, the fallback log, the REST API and its OpenAPI document
are made from their fields.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Annotated, Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from edge.errors import EventError

SCHEMA: Final = 1
UNKNOWN = "unknown"
MAX_EVENT_BYTES = 64 * 1024
Reason = Literal["change", "heartbeat", "frame"]
Probabilities = npt.NDArray[np.float32]  # (classes,) float32 in 0..1, sums to 1
# Text is not accepted as a number, nor a number as a flag, nor NaN.
_STRICT = ConfigDict(strict=True, allow_inf_nan=False, json_schema_serialization_defaults_required=True)


@dataclass(frozen=True, slots=True)
class Label:
    """One class."""

    __pydantic_config__: ClassVar = _STRICT

    label: str
    confidence: Annotated[
        float, Field(description="percent, one decimal", json_schema_extra={"minimum": 0, "maximum": 100})
    ]
    index: Annotated[int, Field(description="the class's number in the model", json_schema_extra={"minimum": 0})]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's output for one frame."""

    probabilities: Probabilities
    latency_ms: Mapping[str, float]  # stage → milliseconds, such as {"preprocess": 1.2, "inference": 41.8}


@dataclass(frozen=True, slots=True)
class Classification:
    """The model's answer for a photo that was sent in."""

    top: tuple[Label, ...]  # the three most probable
    model: str  # the bundle that classified it
    latency_ms: Mapping[str, float]
    probabilities: Probabilities
    labels: Sequence[str]  # of the bundle, one for each probability


def top_k(probabilities: Probabilities, labels: Sequence[str], k: int = 3) -> tuple[Label, ...]:
    """The `k` most probable classes, most probable first, ties by index; confidences in percent."""
    rest = probabilities.copy()
    top = []
    # Sorting every class would take 80 µs more for each frame.
    for _ in range(min(k, len(rest))):
        index = int(rest.argmax())
        top.append(Label(labels[index], round(float(probabilities[index]) * 100, 1), index))
        rest[index] = -np.inf
    return tuple(top)


def isoformat_utc(unix_seconds: float) -> str:
    """A wall-clock time as `2026-11-22T10:15:30.123Z`."""
    moment = datetime.fromtimestamp(round(unix_seconds, 3), tz=timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Event:
    """One event, as on MQTT, on disk and in the REST API; the fields are in the order of the JSON."""

    __pydantic_config__: ClassVar = _STRICT

    schema: Literal[1] = field(default=SCHEMA, kw_only=True)
    id: str  # device-boot-uptime-counter, without gaps in the counter
    device: str
    reason: Reason
    time: str  # when the frame was captured; UTC, milliseconds
    time_synced: bool  # False: the wall clock had not been set when this was made
    boot: str  # first 8 digits of the kernel's boot id
    uptime_s: float  # seconds since boot when the frame was captured
    label: str  # the decision, or "unknown"
    top: tuple[Label, ...]  # smoothed probabilities
    model: str  # the bundle that classified the frame
    latency_ms: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON types, `schema` first."""
        # warnings=False: an int in a float's field is written without a warning.
        document: dict[str, Any] = _JSON.dump_python(self, warnings=False)
        return document

    def to_json(self) -> str:
        """One line of UTF-8 JSON, without a line break."""
        return _one_line(self.to_dict())

    def replayed_json(self, offset_s: float | None) -> str:
        """The event as published on the `replay` topic, marked as `replayed`.

        Args:
            offset_s: wall − uptime of the event's boot, once that boot's clock was synchronised. An event that was
                made before then gets its true time, and the mark `time_corrected`.
        """
        document = self.to_dict() | {"replayed": True}
        if not self.time_synced and offset_s is not None:
            document |= {"time": isoformat_utc(self.uptime_s + offset_s), "time_corrected": True}
        return _one_line(document)

    @classmethod
    def from_json(cls, text: str | bytes) -> Event:
        """Read what `to_json` wrote; unknown keys are ignored.

        Raises:
            EventError: the text is not one event of this schema. No other exception is raised, whatever the text.
        """
        # Lone surrogates become bytes that are not UTF-8, which the next step refuses.
        line = text.encode(errors="surrogatepass") if isinstance(text, str) else text
        if len(line) > MAX_EVENT_BYTES:
            raise EventError(
                f"An event of {len(line)} bytes is larger than {MAX_EVENT_BYTES}; it was not written by us."
            )
        try:
            event = _JSON.validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = "".join(f"'{key}': " for key in first["loc"])
            raise EventError(
                f"An event cannot be read ({where}{first['msg']}); it was not written by this version."
            ) from error
        # The default of `schema` is for `Event(...)` alone; a document has to name its schema.
        if b'"schema"' not in line:
            raise EventError("An event cannot be read ('schema': Field required); it was not written by this version.")
        return event


_JSON = TypeAdapter(Event)


def _one_line(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def event_ids(device: str, boot: str, started_uptime_ms: int) -> Iterator[str]:
    """Ids without gaps: device, boot, the run's start in ms of uptime, and a counter.

    Two runs of one boot start at different uptimes, so ids are unique across restarts and reboots without being
    stored. A missing counter value means that an event was lost.
    """
    return (f"{device}-{boot}-{started_uptime_ms:07d}-{number:06d}" for number in itertools.count())
