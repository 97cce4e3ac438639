"""A box for the web tests: a camera and a model that the test controls, a real pipeline and a real server."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np

from edge.daemon.event_maker import EventMaker
from edge.daemon.pipeline import Pipeline
from edge.decision.decider import Decider, Decision
from edge.events import Event, Probabilities
from edge.frames import Frame, Pixels
from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.server import WebServer
from edge.settings.schema import DecisionSettings, WebSettings
from edge.status.recent import Recent
from edge.status.snapshot import Status
from tests.strangers_decoder import DECODER

WAIT_S = 20.0
CLASSES = 8
MODEL: dict[str, Any] = {
    "name": "fake-int8-000000",
    "schema": 2,
    "architecture": "fake",
    "precision": "int8",
    "target": "x86_64",
    "engine": {"name": "torchscript", "options": {"kernels": "onednn"}, "library": "torch 2.14.1"},
    "files": {"trunk": {"name": "trunk.ts", "sha256": "3fa9c1" * 10 + "abcd"}},
    "features": 512,
    "weights": {"source": "a test", "sha256": "00", "license": "none", "top1": None, "instead_of": None},
    "quantization": {"ranges": "data-free", "photos": 0, "levels": 256, "small_pairs": False, "activations": "quint8"},
    "input": {
        **{"size": 224, "resize": 256, "interpolation": "bilinear", "crop": "centre", "border": [3, 3]},
        **{"border_rgb": [124, 116, 104], "colour": "RGB", "dtype": "uint8", "layout": "NHWC", "normalization": None},
    },
    "golden": [{"index": 0, "confidence": 60.0}, {"index": 1, "confidence": 30.5}],
    "agreement": None,
    "lineage": [],
    "measured": None,
}


class Camera:
    """Delivers frames at a given rate, whose brightness is the class that the model answers; can be unplugged."""

    live = True
    ended = False

    def __init__(self, frames_per_s: float) -> None:
        self._period_s = 1 / frames_per_s
        self._next = time.monotonic()
        self._sequence = 0
        self.plugged = True
        self.shows = 1

    def take(self, timeout_s: float) -> Frame | None:
        early = self._next - time.monotonic()
        if early > 0:
            time.sleep(early)  # the camera's rate; no test waits for it
        now = time.monotonic()
        # Like a camera, it does not deliver later the frames that were not taken.
        self._next = max(self._next + self._period_s, now)
        if not self.plugged:
            return None
        self._sequence += 1
        return Frame(picture(self.shows), time.monotonic_ns(), self._sequence)


def picture(shows: int) -> Pixels:
    """A frame for which the model answers class `shows`."""
    return np.full((120, 160, 3), shows * 30, np.uint8)


def photo(shows: int, width: int = 160, height: int = 120) -> bytes:
    """The same as the bytes of an image file."""
    return bytes(cv2.imencode(".png", np.full((height, width, 3), shows * 30, np.uint8))[1])


class Model:
    """Answers with the brightness; an inference takes `inference_s`, or until `hold` is set."""

    name = str(MODEL["name"])

    def __init__(self, inference_s: float, labels: list[str]) -> None:
        self.labels = labels
        self.inference_s = inference_s
        self.hold = threading.Event()
        self.hold.set()
        self.photos = 0
        self.prepared: deque[tuple[tuple[int, ...], weakref.ref[Pixels]]] = deque(maxlen=100)  # shape, pixels

    def join_thread(self) -> None:
        """Nothing to prepare."""

    def new_input(self) -> Pixels:
        return np.zeros((4, 4, 3), np.uint8)

    def prepare(self, pixels: Pixels, into: Pixels) -> None:
        self.prepared.append((pixels.shape, weakref.ref(pixels)))
        cv2.resize(pixels, (4, 4), dst=into, interpolation=cv2.INTER_AREA)

    def infer(self, buffer: Pixels) -> Probabilities:
        assert self.hold.wait(WAIT_S)
        time.sleep(self.inference_s)
        probabilities = np.full(CLASSES, 0.02, np.float32)
        probabilities[min(CLASSES - 1, int(buffer.mean()) // 30)] = 0.86
        return probabilities


class Timed(Decider):
    """Records how old each frame was, in seconds, when the decision was made."""

    ages: deque[float]

    def decide(self, probabilities: Probabilities, time_s: float) -> Decision | None:
        self.ages.append(time.monotonic() - time_s)
        return super().decide(probabilities, time_s)


@dataclass
class Box:
    """The parts of the box that tests use."""

    camera: Camera
    model: Model
    status: Status
    recent: Recent
    pipeline: Pipeline[Pixels]
    server: WebServer
    client: httpx.Client
    logged: list[Event]
    ages: deque[float]
    described: dict[str, Any]  # the description of the model for the page


def has(condition: Any, within_s: float = WAIT_S) -> bool:
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + within_s
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return bool(holds)


@contextlib.contextmanager
def running(
    *,
    frames_per_s: float = 30,
    inference_s: float = 0.002,
    token_file: Path | None = None,
    stream: bool = False,
    labels: list[str] | None = None,
    port: int = 0,
) -> Iterator[Box]:
    """A box whose page answers."""
    labels = labels or [f"class {n}" for n in range(CLASSES)]
    camera, model, status, recent = Camera(frames_per_s), Model(inference_s, labels), Status(), Recent()
    status.gauge(camera="online", camera_error="", broker="online", broker_error="", device="porch", version="0.0.0")
    status.gauge(temperature_celsius=48.5, throttled=False, disk_bytes_written=4096, log_depth=0, log_bytes=0)
    status.gauge(outbox_events=0, log_used_percent=0.0)
    decider = Timed(DecisionSettings(smoothing_s=0, hold_s=0), labels)
    decider.ages = deque(maxlen=10_000)
    maker = EventMaker("porch", "5f1c2e7a")
    logged: list[Event] = []
    pipeline = Pipeline(camera, model, decider, maker, recent.add, status, watch=recent.offer)
    described = {**MODEL, "classes": len(labels)}
    view = DaemonAccess(
        status.snapshot,
        recent,
        lambda: decider.top,
        DECODER.decode,
        pipeline.classify,
        lambda: described,
        lambda: (str(described["name"]), labels),
        lambda limit, until: [event for event in logged if until in ("", max(until, event.time))][-limit:],
    )
    settings = WebSettings(listen=f"127.0.0.1:{port}", token_file=str(token_file or ""), stream=stream)
    server = WebServer(settings, view, gauge=status.gauge)
    pipeline.start()
    server.start()
    try:
        assert server.listening.wait(WAIT_S)
        with httpx.Client(base_url=server.address, timeout=WAIT_S) as client:
            yield Box(camera, model, status, recent, pipeline, server, client, logged, decider.ages, described)
    finally:
        model.hold.set()
        assert server.stop(WAIT_S)
        assert pipeline.stop(WAIT_S)
