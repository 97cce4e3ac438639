"""What is said about a frame: labels, predictions and events, with the events' JSON form."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from edge.errors import EventError

SCHEMA = 1
UNKNOWN = "unknown"
MAX_EVENT_BYTES = 64 * 1024
Reason = Literal["change", "heartbeat", "frame", "request"]
Probabilities = npt.NDArray[np.float32]  # (classes,) float32 in 0..1, sums to 1


@dataclass(frozen=True, slots=True)
class Label:
    """One class with its confidence in percent, one decimal."""

    label: str
    confidence: float
    index: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one frame."""

    probabilities: Probabilities
    latency_ms: Mapping[str, float]  # stage → milliseconds, such as {"preprocess": 1.2, "inference": 41.8}


@dataclass(frozen=True, slots=True)
class Classification:
    """What the model says of a photo that somebody asked about."""

    top: tuple[Label, ...]
    model: str  # the bundle that answered
    latency_ms: Mapping[str, float]


def top_k(probabilities: Probabilities, labels: Sequence[str], k: int = 3) -> tuple[Label, ...]:
    """The `k` most probable classes, most probable first, ties by index; confidences in percent."""
    rest = probabilities.copy()
    top = []
    # Sorting every class takes 80 µs more, each frame, between two inferences.
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
    """One thing the box said; the field order is the order of the JSON."""

    id: str  # device-boot-uptime-counter, without gaps in the counter
    device: str
    reason: Reason
    time: str  # when the frame was captured; UTC, milliseconds
    time_synced: bool  # False: the wall clock had not been set when this was made
    boot: str  # first 8 digits of the kernel's boot id
    uptime_s: float  # seconds since boot when the frame was captured
    label: str  # the decision, or "unknown"
    top: tuple[Label, ...]  # smoothed probabilities
    model: str  # the bundle that really ran
    latency_ms: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON types, `schema` first."""
        return {"schema": SCHEMA, **dataclasses.asdict(self)}

    def to_json(self) -> str:
        """One line of UTF-8 JSON, without a line break."""
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"))

    def replayed_json(self, offset_s: float | None) -> str:
        """The event as it goes to `replay`.

        `offset_s` is wall − uptime of the event's boot once that boot's clock was synchronised; an event
        that was made before then gets the time that it really happened at, and says so.
        """
        document = self.to_dict() | {"replayed": True}
        if not self.time_synced and offset_s is not None:
            document |= {"time": isoformat_utc(self.uptime_s + offset_s), "time_corrected": True}
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Event:
        """Read what `to_json` wrote.

        Raises:
            EventError: the text is not one event of this schema; whatever it is, nothing else is raised.
        """
        if len(text) > MAX_EVENT_BYTES:
            raise EventError(
                f"An event of {len(text)} bytes is larger than {MAX_EVENT_BYTES}; it was not written by us."
            )
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise EventError(f"An event is not JSON ({error}); it was not written by this version.") from error
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise EventError(f"An event does not carry schema {SCHEMA}; it was written by another version.")
        try:
            return cls(
                **{name: _typed(document[name], kind, name) for name, kind in _PLAIN_FIELDS.items()},
                reason=_reason(document["reason"]),
                top=tuple(_label(item) for item in _typed(document["top"], list, "top")),
                latency_ms={
                    _typed(stage, str, "latency_ms"): _number(value, "latency_ms")
                    for stage, value in _typed(document["latency_ms"], dict, "latency_ms").items()
                },
                uptime_s=_number(document["uptime_s"], "uptime_s"),
            )
        except KeyError as error:
            raise EventError(f"An event lacks {error}; it was not written by this version.") from error


_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN_FIELDS: dict[str, type] = {
    "id": str,
    "device": str,
    "time": str,
    "time_synced": bool,
    "boot": str,
    "label": str,
    "model": str,
}


def _typed(value: object, kind: type, name: str) -> Any:
    # bool is an int to Python, and half a surrogate pair is a str that no UTF-8 can carry.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise EventError(f"An event's {name} is {type(value).__name__} instead of {kind.__name__}.")
    if isinstance(value, str) and _LONE_SURROGATE.search(value):
        raise EventError(f"An event's {name} is not Unicode text.")
    return value


def _number(value: object, name: str) -> float:
    # JSON's NaN and Infinity are not numbers to anyone else.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value):
        raise EventError(f"An event's {name} holds {value!r:.40} instead of a finite number.")
    return float(value)


def _finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of a float
        return False


def _reason(value: object) -> Reason:
    for reason in get_args(Reason):
        if value == reason:
            return reason  # type: ignore[no-any-return]
    raise EventError(f"An event's reason is {value!r:.40}, which this version does not know.")


def _label(item: object) -> Label:
    fields = _typed(item, dict, "top")
    index = _typed(fields["index"], int, "index")
    return Label(_typed(fields["label"], str, "label"), _number(fields["confidence"], "confidence"), index)


class EventIds:
    """Ids without gaps: device, boot, the run's start in ms of uptime, and a counter.

    Two runs of one boot start at different uptimes, so an id is unique across restarts and reboots
    without anything being stored, and a missing counter value is an event that was lost.
    """

    def __init__(self, device: str, boot: str, started_uptime_ms: int) -> None:
        self._prefix = f"{device}-{boot}-{started_uptime_ms:07d}"
        self._next = 0

    def next(self) -> str:
        """The id of the next event; called from one thread only."""
        number, self._next = self._next, self._next + 1
        return f"{self._prefix}-{number:06d}"
