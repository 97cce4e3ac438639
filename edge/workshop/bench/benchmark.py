"""Runs a whole benchmark: loads the bundle, measures each figure in its share of the time, and returns the result."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from edge import __version__
from edge.board import host
from edge.camera.geometry import FrameBuffers
from edge.camera.source import Source, make_source
from edge.daemon.event_maker import EventMaker
from edge.errors import ConfigError
from edge.events import isoformat_utc
from edge.settings.schema import CameraSettings, ModelSettings, Settings
from edge.vision.bundle import Bundle, load_bundle
from edge.vision.classifier import Classifier
from edge.workshop.bench.apart import apart
from edge.workshop.bench.cold_start import batch_per_s, first_label_s, import_library_s
from edge.workshop.bench.machine import condition, machine, made
from edge.workshop.bench.publish import Publisher, publisher
from edge.workshop.bench.result import Condition, Result
from edge.workshop.bench.stages import read_frames, stage_latencies
from edge.workshop.bench.sustained import sustained
from edge.workshop.bench.thread_counts import thread_counts
from edge.workshop.bench.upload import measure_uploads

FRAMES = 8  # different frames in memory, so that the processor's caches do not hold the one that is measured
STAGES_SHARE, SUSTAINED_SHARE, THREADS_SHARE, UPLOAD_SHARE, BATCH_SHARE = 0.15, 0.45, 0.2, 0.1, 0.1  # of the time


def run_benchmark(
    settings: Settings,
    directory: Path,
    seconds: float,
    *,
    given: bool = False,
    photos: Path | None = None,
    configured_camera: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    read_condition: Callable[[], Condition] = condition,
) -> Result:
    """Measure a bundle on this machine.

    Args:
        settings: model, camera and broker.
        directory: the bundle's.
        seconds: for everything but the cold start.
        given: the bundle was named on the command line.
        photos: a folder, a photo or a video to read frames from; None for the bundle's golden photo.
        configured_camera: read frames from the camera of the settings instead.
        progress: called with a description of each step.
        read_condition: returns the board's condition; called before and after.

    Raises:
        BundleError: the bundle cannot be loaded or gives no label.
        CameraError: the source of frames fails.
    """
    before = read_condition()
    progress("loading")
    bundle = load_bundle(directory, given=given)
    classifier = apart(Classifier, bundle, settings.model)
    threads, golden = classifier.threads, bundle.golden
    if configured_camera:
        camera = settings.camera.model_copy(update={"loop": True, "fps": 0.0})  # a file repeats; no limit of the rate
    else:
        camera = CameraSettings(source=f"file:{photos or golden}", size=settings.camera.size, loop=True)
    source = make_source(camera)
    maker = EventMaker(settings.device.name, host.boot_id())
    with publisher(settings.mqtt, settings.device.name) as events:
        figures = _measure(bundle, settings.model, classifier, camera, source, maker, events, seconds, progress)
    progress("cold start")
    import_s = import_library_s(bundle.manifest.engine.name)
    label_s = first_label_s(bundle.directory, golden, threads)
    progress("batches")
    one_thread_ms = figures["thread_counts"][0].p50_ms
    photos_per_s = batch_per_s(bundle.directory, golden, one_thread_ms, seconds * BATCH_SHARE)
    return Result(
        version=__version__,
        time=isoformat_utc(time.time()),
        model=bundle.name,
        photos=source.name if photos or configured_camera else "the golden photo",
        threads=threads,
        machine=machine(bundle.manifest),
        made=made(bundle.manifest),
        before=before,
        after=read_condition(),
        import_library_s=round(import_s, 2),
        cold_start_s=round(label_s, 2),
        batch_per_s=round(photos_per_s, 1),
        **figures,
    )


def _measure(
    bundle: Bundle,
    model: ModelSettings,
    classifier: Classifier,
    camera: CameraSettings,
    source: Source,
    maker: EventMaker,
    events: Publisher,
    seconds: float,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """The fields of `Result` that the loaded model is needed for."""
    buffers = FrameBuffers()
    source.open()
    with closing(source):  # `sustained` opens the camera again
        frames = read_frames(source, buffers, FRAMES)
    progress("every stage overlapped")
    rates, captured_fps = sustained(classifier, camera, frames, maker, events, seconds * SUSTAINED_SHARE)
    # Read before thread counts are tried, each of which may leave a pool of threads behind.
    steady, peak = host.memory_bytes() or 0, host.peak_memory_bytes() or 0
    progress("each stage alone")
    source.open()
    with closing(source):
        stages = apart(stage_latencies, source, buffers, classifier, maker, events, seconds * STAGES_SHARE)
    progress("uploads")
    upload, no_upload = None, ""
    try:
        upload = measure_uploads(classifier, bundle.files["golden"], maker, seconds * UPLOAD_SHARE)
    except ConfigError as error:  # the rest is worth knowing without the page
        no_upload = str(error)
    progress("threads")
    return rates | {
        "captured": f"{source.name} gave {captured_fps:.1f} a second"
        if source.live  # a camera may be slower than the model
        else f"{source.name.rsplit('/', 1)[-1]}, read and decoded anew for each frame",
        "peak_memory_mb": round(peak / 1e6, 1),
        "steady_memory_mb": round(steady / 1e6, 1),
        "stages": stages,
        "upload": upload,
        "no_upload": no_upload,
        "thread_counts": thread_counts(bundle, model, frames, seconds * THREADS_SHARE),
    }
