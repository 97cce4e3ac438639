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
    sustained_fps: float  # every stage, overlapped
    of_model_percent: float  # sustained over model alone, the median of interleaved rounds
    peak_memory_mb: float
    steady_memory_mb: float
    stages: dict[str, Latency]
    thread_counts: tuple[ThreadCount, ...]
    comparison: Comparison | None = None  # with --compare

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

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
