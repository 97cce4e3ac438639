"""One run: load, measure everything within the time given, and say what it was measured on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edge import __version__
from edge.board import host
from edge.camera.geometry import FrameBuffers
from edge.camera.source import Source, make_source
from edge.daemon.event_maker import EventMaker
from edge.events import isoformat_utc
from edge.frames import Pixels
from edge.settings.schema import CameraSettings, Settings
from edge.vision.bundle import GOLDEN, load_bundle
from edge.vision.classifier import Classifier
from edge.workshop.bench.cold_start import first_label_s, import_torch_s
from edge.workshop.bench.machine import condition, machine
from edge.workshop.bench.publish import Publisher, publisher
from edge.workshop.bench.result import Condition, Result, ThreadCount
from edge.workshop.bench.stages import inference_p50_ms, read_frames, stage_latencies
from edge.workshop.bench.sustained import sustained

FRAMES = 8  # in memory at once; different ones, so that no cache of the processor can be what is measured
STAGES_SHARE, SUSTAINED_SHARE, THREADS_SHARE = 0.2, 0.55, 0.25  # of the time given


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    bundle: Path
    seconds: float
    photos: Path | None = None  # a folder, a photo or a video
    camera: bool = False  # the configured one
    given: bool = False  # the bundle was named on the command line


def run_benchmark(
    settings: Settings,
    wanted: Wanted,
    *,
    step: Callable[[str], None] = lambda _: None,
    how: Callable[[], Condition] = condition,
) -> Result:
    """Measure.

    Args:
        settings: model, camera and broker.
        step: told what is being measured.
        how: the board's condition, read before and after.

    Raises:
        BundleError, CameraError: it cannot be measured; the sentence says why.
    """
    before = how()
    step("loading")
    bundle = load_bundle(wanted.bundle, given=wanted.given)
    classifier = Classifier(bundle, settings.model)
    threads = torch.get_num_threads()
    golden = bundle.directory / GOLDEN
    camera = _camera(settings.camera, wanted, golden)
    source = make_source(camera)
    with publisher(settings.mqtt, settings.device.name) as publishing, ThreadPoolExecutor(1, "inference") as other:
        # In the daemon another thread infers than the one that loaded the model. It matters: then there are
        # more OpenMP threads than processors, and libgomp does not spin at its barriers.
        seconds, device = wanted.seconds, settings.device.name
        figures = other.submit(_measure, device, seconds, classifier, camera, source, publishing, step).result()
    torch.set_num_threads(threads)
    step("cold start")
    import_s, label_s = import_torch_s(), first_label_s(bundle.directory, golden, threads)
    return Result(
        version=__version__,
        time=isoformat_utc(time.time()),
        model=bundle.name,
        photos="the golden photo" if not wanted.photos and not wanted.camera else source.name,
        threads=threads,
        machine=machine(bundle.manifest.engine),
        before=before,
        after=how(),  # every figure is taken
        import_torch_s=round(import_s, 2),
        cold_start_s=round(label_s, 2),
        **figures,
    )


def _measure(
    device: str,
    seconds: float,
    classifier: Classifier,
    camera: CameraSettings,
    source: Source,
    publishing: Publisher,
    step: Callable[[str], None],
) -> dict[str, Any]:
    """What is measured in the thread that infers: the fields of `Result` that are figures."""
    buffers = FrameBuffers()
    maker = EventMaker(device, host.boot_id())
    with _opened(source):
        frames = read_frames(source, buffers, FRAMES)
    step("every stage overlapped")
    rates = sustained(classifier, camera, frames, maker, publishing, seconds * SUSTAINED_SHARE)
    # Before thread counts are tried, each of which may leave a pool behind.
    steady, peak = host.memory_bytes() or 0, host.peak_memory_bytes() or 0
    step("each stage alone")
    with _opened(source):
        stages = stage_latencies(source, buffers, classifier, maker, publishing, seconds * STAGES_SHARE)
    step("threads")
    return {
        "model_fps": round(rates.model_fps, 1),
        "sustained_fps": round(rates.fps, 1),
        "of_model_percent": round(rates.percent, 1),
        "from_memory_fps": round(rates.from_memory_fps, 1),
        "from_memory_percent": round(rates.from_memory_percent, 1),
        "captured": _captured(source, rates.captured_fps),
        "peak_memory_mb": round(peak / 1e6, 1),
        "steady_memory_mb": round(steady / 1e6, 1),
        "stages": stages,
        "thread_counts": thread_counts(classifier, frames, seconds * THREADS_SHARE),
    }


def thread_counts(classifier: Classifier, frames: list[Pixels], seconds: float) -> tuple[ThreadCount, ...]:
    """Inference with one thread, two, … up to one for each processor."""
    numbers = range(1, len(os.sched_getaffinity(0)) + 1)
    found = []
    for number in numbers:
        torch.set_num_threads(number)
        found.append(ThreadCount(threads=number, p50_ms=inference_p50_ms(classifier, frames, seconds / len(numbers))))
    return tuple(found)


def _camera(camera: CameraSettings, wanted: Wanted, golden: Path) -> CameraSettings:
    """Camera settings for the run: no rate limit, and files repeat, the configured one too."""
    if wanted.camera:
        return camera.model_copy(update={"loop": True, "fps": 0.0})
    return CameraSettings(source=f"file:{wanted.photos or golden}", size=camera.size, loop=True)


def _captured(source: Source, fps: float) -> str:
    """Where the frames of `sustained` came from; a camera may be slower than the model."""
    if source.live:
        return f"{source.name} gave {fps:.1f} a second"
    return f"{source.name.rsplit('/', 1)[-1]}, read and decoded anew for each frame"


@contextmanager
def _opened(source: Source) -> Iterator[None]:
    """Open only as long as needed: a camera is one thread's, and `sustained` brings its own."""
    source.open()
    try:
        yield
    finally:
        source.close()
