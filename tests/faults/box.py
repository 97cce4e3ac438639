"""The whole box without torch: the real camera, pipeline and delivery stages, and a model that returns the grey level.

Every classified frame becomes an event, so that frames and events can be counted one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edge.camera.capture import Capture
from edge.camera.source import Source, make_source
from edge.daemon.event_maker import EventMaker
from edge.daemon.pipeline import Pipeline
from edge.decision.decider import Decider
from edge.delivery.delivery import Delivery
from edge.events import Probabilities
from edge.frames import Pixels
from edge.settings.schema import CameraSettings, DecisionSettings, FallbackSettings, MqttSettings
from edge.status.snapshot import Status
from tests.broker import Subscriber, eventually
from tests.delivery.room import stored_ids

DEVICE, BOOT = "porch", "5f1c2e7a"


class GreyModel:
    """Answers with a picture's brightness; stands in for the network, which camera faults do not affect."""

    name = "grey-1"
    labels = tuple(f"grey {level}" for level in range(256))

    def __init__(self) -> None:
        self.seconds = 0.0  # how long an inference takes

    def join_thread(self) -> None:
        """Nothing to prepare."""

    def new_input(self) -> Pixels:
        return np.zeros(1, np.uint8)

    def prepare(self, pixels: Pixels, into: Pixels) -> None:
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        assert pixels.shape[2] == 3
        into[0] = round(float(pixels.mean()))

    def infer(self, buffer: Pixels) -> Probabilities:
        time.sleep(self.seconds)
        probabilities = np.zeros(256, np.float32)
        probabilities[buffer[0]] = 1.0
        return probabilities


class Box:
    """The daemon's stages in the test's process."""

    def __init__(
        self, url: str, log: Path, make: Callable[[CameraSettings], Source] = make_source, **camera: Any
    ) -> None:
        self.status = Status()
        self.log = log
        self.model = GreyModel()
        self.delivery = Delivery(
            MqttSettings(url=url),
            FallbackSettings(path=log, replay_per_s=0),
            *(DEVICE, BOOT, self.status),
        )
        camera = {"stall_after_s": 1} | camera
        self.capture = Capture(
            CameraSettings(**camera), self.status, on_camera=self.delivery.set_camera, make=make, jitter=lambda: 0.0
        )
        self.maker = EventMaker(DEVICE, BOOT)
        decider = Decider(DecisionSettings(every_frame=True, smoothing_s=0, hold_s=0), self.model.labels)
        self.pipeline = Pipeline(self.capture, self.model, decider, self.maker, self.delivery.put, self.status)

    def start(self) -> None:
        self.delivery.start()
        self.pipeline.start()
        self.capture.start()

    def stop(self) -> None:
        """Stop the stages in the daemon's order."""
        assert self.pipeline.stop(10)
        self.delivery.stop(5)
        self.capture.stop(0.1)
        assert self.pipeline.failure is None

    def counter(self, name: str) -> int:
        return self.status.snapshot().counters.get(name, 0)

    def gauge(self, name: str) -> Any:
        return self.status.snapshot().gauges.get(name)

    def wait_made(self, events: int) -> None:
        eventually(lambda: self.counter("events_made") >= events, f"{events} events are made")

    def wait_overdue(self) -> None:
        eventually(lambda: "camera" in self.status.overdue(), "the blocked call shows")

    def account(self, subscriber: Subscriber | None) -> set[str]:
        """Check after `stop` that no event is missing or invented; returns the ids of all events.

        Frames: captured = classified + superseded by newer ones + still in the stages (two at most). Events: made =
        received by the subscriber + still in the log, and the counter in the ids has no gap.
        """
        frames = [self.counter(f"frames_{name}") for name in ("captured", "classified", "superseded", "dropped")]
        captured, classified, superseded, dropped = frames
        assert 0 <= captured - classified - superseded - dropped <= 3, f"frames do not add up: {frames}"
        assert self.counter("events_made") == classified
        received = set() if subscriber is None else {*subscriber.ids("event"), *subscriber.ids("replay")}
        events = received | set(stored_ids(self.log) if self.log.exists() else [])
        numbers = sorted(int(event.rsplit("-", 1)[1]) for event in events)
        assert numbers == list(range(classified)), f"{classified} events made, {len(numbers)} accounted for"
        return events


@contextmanager
def box(url: str, log: Path, make: Callable[[CameraSettings], Source] = make_source, **camera: Any) -> Iterator[Box]:
    """A started box."""
    made = Box(url, log, make, **camera)
    made.start()
    try:
        yield made
    finally:
        made.pipeline.stop(10)
        made.delivery.stop(5)
        made.capture.stop(0.1)
