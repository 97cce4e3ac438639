"""A result as of a Pi 4, for tests to vary."""

from typing import Any

from edge.workshop.bench.result import STAGES, Condition, Latency, Machine, Result, ThreadCount, Upload

CALM = Condition(temperature_celsius=52.1, under_voltage=False, throttled=False, load=0.3)
UPLOAD = Upload(
    photo="JPEG of 600 × 400, 57 kB",
    requests=200,
    answered=198,
    failures={"HTTP 429": 2},
    alone=Latency(p50=96.0, p95=110.0, p99=120.0, mean=97.25, what="one after the other"),
    at_once=4,
    together=Latency(p50=240.0, p95=280.0, p99=300.0, mean=245.0, what="4 at once"),
    peak_memory_mb=341.0,
)


def result(**changes: Any) -> Result:
    """An undisturbed run with four threads; `changes` are fields of `Result`."""
    machine = Machine(
        board="Raspberry Pi 4 Model B Rev 1.4",
        cpu="Cortex-A72",
        processors=4,
        cpu_features=("asimd",),
        python="3.11.2",
        library="torch 2.9.1, built with OpenMP, QNNPACK, XNNPACK",
        engine="qnnpack",
    )
    what = "a thing that takes so many words to describe that no terminal of this world could hold it"
    fields: dict[str, Any] = {
        "version": "0.1.0",
        "time": "2026-11-22T10:15:30.123Z",
        "model": "resnet18-int8-3fa9c1",
        "photos": "the golden photo",
        "threads": 4,
        "machine": machine,
        "before": CALM,
        "after": CALM.model_copy(update={"temperature_celsius": 61.0}),
        "cold_start_s": 9.1,
        "import_library_s": 6.9,
        "model_fps": 16.2,
        "sustained_fps": 15.7,
        "of_model_percent": 96.9,
        "from_memory_fps": 16.0,
        "from_memory_percent": 98.8,
        "captured": "a-camera-with-a-name-that-goes-on-and-on-until-no-line-holds-it gave 29.9 a second",
        "peak_memory_mb": 312.0,
        "steady_memory_mb": 288.0,
        "stages": {
            stage: Latency(p50=float(i), p95=i + 0.5, p99=i + 0.75, what=what) for i, stage in enumerate(STAGES)
        },
        "batch_per_s": 16.9,
        "upload": UPLOAD,
        "thread_counts": tuple(ThreadCount(threads=n, p50_ms=200 / n + (n == 4) * 60) for n in (1, 2, 3, 4)),
    }
    return Result(**fields | changes)
