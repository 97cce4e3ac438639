"""What one run of the benchmark found, and its JSON, which later versions go on reading."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.errors import ConfigError

STAGES = ("capture", "preprocess", "inference", "decision", "publish")


class Part(BaseModel):
    """Base of the result's parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Machine(Part):
    """What it ran on, and with."""

    board: str
    cpu: str
    processors: int
    cpu_features: tuple[str, ...]  # those that the kernels choose by
    python: str
    torch: str
    torch_build: str  # the libraries it computes with
    engine: str
    gpu: str = ""  # its name; empty where the model runs on the processor


class Condition(Part):
    """How the board felt."""

    temperature_celsius: float | None
    under_voltage: bool
    throttled: bool
    load: float  # processes that wanted to run, averaged over the last minute
    # What the board remembers, by which a strain is seen that came and went between two looks at it.
    under_voltage_since_boot: bool = False
    throttled_since_boot: bool = False
    over_current_events: int = 0  # since boot

    @property
    def strained(self) -> bool:
        """Whether figures taken now are not the board's best."""
        return self.under_voltage or self.throttled


class Latency(Part):
    """Milliseconds of one stage; nearest rank, so each really happened."""

    p50: float
    p95: float
    p99: float
    what: str  # in words what was timed


class ThreadCount(Part):
    """Inference with so many threads."""

    threads: int
    p50_ms: float


class Result(Part):
    """One run."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    version: str
    time: str  # UTC
    model: str
    photos: str
    threads: int
    machine: Machine
    before: Condition
    after: Condition
    cold_start_s: float
    import_torch_s: float
    model_fps: float  # inference alone, one after the other
    sustained_fps: float  # every stage, overlapped, capture and decoding among them
    of_model_percent: float  # sustained over model alone, the median of interleaved rounds
    from_memory_fps: float  # the same pipeline without capture: its frames lie in memory
    from_memory_percent: float  # that over model alone
    captured: str  # in words where the frames of sustained came from
    peak_memory_mb: float
    steady_memory_mb: float
    stages: dict[str, Latency]
    thread_counts: tuple[ThreadCount, ...]
    comparison: Comparison | None = None  # with --compare

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @property
    def during(self) -> Condition:
        """The condition after the run, with the strain that the board did not yet remember before it.

        A Pi remembers that it was strained, not when: what had happened since boot already, and is over, is not seen.
        """
        before, after = self.before, self.after
        sagged = after.under_voltage_since_boot and not before.under_voltage_since_boot
        slowed = after.throttled_since_boot and not before.throttled_since_boot
        limited = after.over_current_events > before.over_current_events
        return after.model_copy(update={"under_voltage": sagged or limited, "throttled": slowed})

    @property
    def strained(self) -> bool:
        """Whether figures are not the board's best, for all that can be known."""
        return self.before.strained or self.after.strained or self.during.strained

    @property
    def best_threads(self) -> int:
        """The thread count with the lowest median."""
        return min(self.thread_counts, key=lambda count: count.p50_ms).threads

    def to_json(self) -> str:
        """One line; a run that is compared with none does not mention it."""
        return self.model_dump_json(by_alias=True, exclude={"comparison"} if self.comparison is None else None)


class Comparison(Part):
    """An older run beside this one."""

    older: Result
    now_over_before: dict[str, float]  # by the comparison table's names; none for a figure that was 0


def latency(milliseconds: Sequence[float], what: str) -> Latency:
    """The percentiles of what was measured, at least once."""
    ordered = sorted(milliseconds)
    p50, p95, p99 = (round(ordered[max(0, math.ceil(len(ordered) * p / 100) - 1)], 3) for p in (50, 95, 99))
    return Latency(p50=p50, p95=p95, p99=p99, what=what)


def read_result(file: Path) -> Result:
    """What `bench --json` printed into a file.

    Raises:
        ConfigError: it cannot be read, or is something else.
    """
    try:
        return Result.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror or error}.") from error
    except ValidationError as error:
        raise ConfigError(
            f"{file} is not a result of `edge-classifier bench --json` of this version; make one with it."
        ) from error
