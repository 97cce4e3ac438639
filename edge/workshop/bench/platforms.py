"""The platform table: this machine's row, and below it what others have published for ResNet-18 on boards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from edge.workshop.bench.result import Result, Upload

WIDTH = 80
NAME = 27


class Published(NamedTuple):
    """A published figure: ResNet-18, one photo of 224 × 224 at a time."""

    name: str
    latency_ms: float
    memory_mb: float | None
    source: int  # its place in SOURCES, from 1


SOURCES = (  # read in November 2026
    "github.com/Tencent/ncnn, benchmark/README.md: mean, 4 threads",
    "docs.pytorch.org/tutorials/intermediate/realtime_rpi.html: model time",
    "huggingface.co/Arm/resnet-18-int8-xnnpack-executorch: median",
)
PUBLISHED = (
    Published("Zero 2 W, ncnn INT8", 195.5, None, 1),
    Published("Pi 4, PyTorch", 100.3, None, 2),
    Published("Pi 4, ncnn INT8", 83.9, None, 1),
    Published("Pi 5, ExecuTorch INT8", 8.75, 24.0, 3),
)


def platforms(result: Result) -> Iterator[str]:
    """Lines of at most WIDTH characters; rows of others only for ResNet-18."""
    yield f"{'platform':{NAME}}{'latency':>9}{'memory':>8}{'load':>8}{'batch':>10}{'upload':>9}{'answered':>9}"
    yield f"{'':{NAME}}{'ms':>9}{'MB':>8}{'s':>8}{'photos/s':>10}{'ms':>9}"
    yield "─" * WIDTH
    upload = result.upload
    memory_mb = max(result.peak_memory_mb, upload.peak_memory_mb if upload else 0.0)
    inference, alone = result.stages["inference"], upload.alone if upload else None
    yield _row(
        *("this machine", inference.mean or inference.p50, memory_mb, result.cold_start_s, result.batch_per_s),
        upload_ms=alone.mean if alone else None,
        answered=f"{upload.answered_percent:.4g} %" if upload else "–",
    )
    if result.model.startswith("resnet18-"):
        for other in PUBLISHED:
            yield _row(f"{other.name} [{other.source}]", other.latency_ms, other.memory_mb)
        yield from (f"[{number}] {source}" for number, source in enumerate(SOURCES, 1))
    yield "latency: mean of one inference; memory: peak, with the page; load: from the"
    yield "program's start to the first label; batch: `classify` on all processors;"
    yield "upload: from sending a photo to /predict until its answer, one at a time"
    yield from _explained(upload, result.no_upload)


def _row(
    name: str,
    latency_ms: float,
    memory_mb: float | None,
    load_s: float | None = None,
    per_s: float | None = None,
    upload_ms: float | None = None,
    answered: str = "–",
) -> str:
    cells = (
        f"{latency_ms:9.2f}" if latency_ms < 10 else f"{latency_ms:9.1f}",
        f"{'–' if memory_mb is None else format(memory_mb, '.0f'):>8}",
        f"{'–' if load_s is None else format(load_s, '.2f'):>8}",
        f"{'–' if per_s is None else format(per_s, '.1f'):>10}",
        f"{'–' if upload_ms is None else format(upload_ms, '.1f'):>9}",
        f"{answered:>9}",
    )
    return f"{name:{NAME}.{NAME}}{''.join(cells)}"


def _explained(upload: Upload | None, no_upload: str) -> Iterator[str]:
    if upload is None:
        yield f"uploads: not measured, because {no_upload}"
        return
    together = f"; {upload.together.mean:.1f} ms with {upload.at_once} at once" if upload.together else ""
    yield f"uploads: {upload.photo}{together}; {upload.answered} of {upload.requests} answered"
    if upload.failures:
        yield "not answered: " + ", ".join(f"{number} × {failure}" for failure, number in upload.failures.items())
