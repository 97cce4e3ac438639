"""The result of one benchmark run, and its JSON, which later versions must still read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge.errors import ConfigError

STAGES = ("capture", "preprocess", "inference", "decision", "publish")


class Part(BaseModel):
    """Base class of the result and its parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Machine(Part):
    """The hardware and software of a run."""

    board: str
    cpu: str
    cpu_parts: tuple[str, ...] = ()  # of ARM, where the kernel often gives the cores no name
    processors: int
    cpu_features: tuple[str, ...]  # those by which the kernels are chosen
    python: str
    library: str  # the one that computes, with its version and build
    engine: str
    gpu: str = ""  # its name; empty if the model runs on the processor
    system: str = ""
    kernel: str = ""
    memory_mb: float | None = None
    governor: str = ""  # what chooses the processors' frequency; empty where the kernel does not
    max_mhz: float | None = None


class Candidate(Part):
    """One of the engines that `export` compared when it made the bundle."""

    engine: str
    ms: float | None  # the median of an inference; null: it was not timed
    agrees: bool
    reason: str  # why it was not chosen; empty for the one that was


class Made(Part):
    """How the bundle was made, from its manifest."""

    precision: str
    activations: str  # of INT8; empty for FP16
    library: str
    board: str = ""  # on which `export` compared the candidates
    threads: int | None = None
    candidates: tuple[Candidate, ...] = ()


class Condition(Part):
    """The board's temperature, supply and load at one moment."""

    temperature_celsius: float | None
    under_voltage: bool
    throttled: bool
    load: float  # runnable processes, averaged over the last minute
    mhz: float | None = None  # of the fastest processor
    # Recorded since boot: throttling that began and ended between two readings shows here.
    under_voltage_since_boot: bool = False
    throttled_since_boot: bool = False
    over_current_events: int = 0

    @property
    def strained(self) -> bool:
        """Whether the board is slower now than it can be."""
        return self.under_voltage or self.throttled


class Latency(Part):
    """Percentiles of one stage in milliseconds, by nearest rank: each is a time that was measured."""

    p50: float
    p95: float
    p99: float
    mean: float | None = None  # null: measured by an older version
    what: str  # a description of what was timed


class ThreadCount(Part):
    """Medians of one inference with a number of threads; null: measured by an older version."""

    threads: int
    p50_ms: float
    cpu_ms: float | None = None  # processor time in all threads of the process
    busy_p50_ms: float | None = None  # beside one busy loop for each processor
    busy_cpu_ms: float | None = None


class Upload(Part):
    """JPEGs sent to the page's `/predict` over HTTP, each until its answer."""

    photo: str  # a description
    requests: int
    answered: int  # with labels
    failures: dict[str, int]  # HTTP status or error → how many
    alone: Latency | None  # one request after the other; null: none was answered
    at_once: int  # clients
    together: Latency | None  # of one request, while so many clients ask at once
    peak_memory_mb: float  # of the process, with the page

    @property
    def answered_percent(self) -> float:
        """The success rate."""
        return round(100 * self.answered / self.requests, 1)


class InstalledBundle(Part):
    """One of the installed bundles, measured in a process of its own, in turn with the others."""

    name: str
    current: bool  # whether the link `current` names it
    engine: str
    agreement: float | None  # percent of photos with FP32's top-1 class, from the manifest
    golden: bool  # whether it answers its golden photo as it did when it was made
    p50_ms: float | None  # of an inference; null: it cannot run here
    memory_mb: float | None  # resident, of its process
    reason: str = ""  # why it cannot run here


class Result(Part):
    """The result of one run. Schema 1, which older versions wrote, is converted when it is read."""

    schema_version: Literal[2] = Field(default=2, alias="schema")
    version: str
    time: str  # UTC
    model: str
    photos: str
    threads: int
    machine: Machine
    made: Made | None = None  # null: measured by an older version
    before: Condition
    after: Condition
    cold_start_s: float
    import_library_s: float  # the engine's library alone: the least that a cold start can take
    model_fps: float  # inference alone, one after the other
    sustained_fps: float  # every stage overlapped, including capture and decoding
    of_model_percent: float  # sustained over model alone, the median of interleaved rounds
    from_memory_fps: float  # the same pipeline without capture: its frames are in memory
    from_memory_percent: float  # from memory over model alone
    captured: str  # a description of where the frames of `sustained` came from
    peak_memory_mb: float
    steady_memory_mb: float
    stages: dict[str, Latency]
    thread_counts: tuple[ThreadCount, ...]
    batch_per_s: float | None = None  # photos a second of `classify`; null: measured by an older version
    upload: Upload | None = None  # null: not measured, for the reason in `no_upload`
    no_upload: str = ""
    installed: tuple[InstalledBundle, ...] = ()  # where several bundles are installed
    comparison: Comparison | None = None  # with --compare

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _from_schema_1(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or fields.get("schema") != 1:
            return fields
        fields = fields | {"schema": 2, "no_upload": "an older version wrote this"}
        fields["import_library_s"] = fields.pop("import_torch_s", None)
        fields["machine"] = machine = dict(fields.get("machine") or {})
        machine["library"] = f"torch {machine.pop('torch', '')}, built with {machine.pop('torch_build', '')}"
        return fields

    @property
    def during(self) -> Condition:
        """The condition after the run, with under-voltage and throttling as recorded for the time of the run.

        A Pi records that it was throttled since boot, not when: if it was before the run, another time during the run
        is not noticed.
        """
        before, after = self.before, self.after
        sagged = after.under_voltage_since_boot and not before.under_voltage_since_boot
        slowed = after.throttled_since_boot and not before.throttled_since_boot
        limited = after.over_current_events > before.over_current_events
        return after.model_copy(update={"under_voltage": sagged or limited, "throttled": slowed})

    @property
    def strained(self) -> bool:
        """Whether the board is known to have been slower than it can be."""
        return self.before.strained or self.after.strained or self.during.strained

    @property
    def best_threads(self) -> int:
        """The thread count with the lowest median."""
        return min(self.thread_counts, key=lambda count: count.p50_ms).threads

    def to_json(self) -> str:
        """One line; without the key `comparison` if there is none."""
        return self.model_dump_json(by_alias=True, exclude={"comparison"} if self.comparison is None else None)


class Comparison(Part):
    """An older run, for comparison with this one."""

    older: Result
    now_over_before: dict[str, float]  # the keys are the names in the comparison table; a figure that was 0 has none


def latency(milliseconds: Sequence[float], what: str) -> Latency:
    """The percentiles of at least one measurement."""
    ordered = sorted(milliseconds)
    p50, p95, p99 = (round(ordered[max(0, math.ceil(len(ordered) * p / 100) - 1)], 3) for p in (50, 95, 99))
    mean = round(math.fsum(ordered) / len(ordered), 3)
    return Latency(p50=p50, p95=p95, p99=p99, mean=mean, what=what)


def read_result(file: Path) -> Result:
    """Read a file that holds the output of `bench --json`.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    try:
        return Result.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror or error}.") from error
    except ValidationError as error:
        raise ConfigError(
            f"{file} is not a result of `edge-classifier bench --json` of this version; make one with it."
        ) from error
