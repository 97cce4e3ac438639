"""Tests that bench continues after a broken picture or a lost broker, and reports a source that ends in a sentence."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from edge.camera.geometry import FrameBuffers
from edge.camera.source import UnreadablePictureError
from edge.daemon.event_maker import EventMaker
from edge.errors import CameraError
from edge.frames import Pixels
from edge.settings.schema import ModelSettings, MqttSettings
from edge.vision.bundle import load_bundle
from edge.vision.classifier import Classifier
from edge.workshop.bench.publish import publisher
from edge.workshop.bench.stages import LEAST, UNREADABLE, next_picture, read_frames, stage_latencies
from tests.broker import Brokers


class Listed:
    """A source that gives pictures (True) or broken ones (False) as listed, then ends."""

    name, live, fps = "listed", False, 1.0

    def __init__(self, pictures: Iterator[bool]) -> None:
        self._pictures = pictures
        self._good = False

    def open(self) -> None: ...

    def close(self) -> None: ...

    def grab(self) -> bool:
        good = next(self._pictures, None)
        self._good = good is True
        return good is not None

    def retrieve(self, buffers: FrameBuffers) -> Pixels:
        if not self._good:
            raise UnreadablePictureError("It is damaged.")
        return np.zeros((2, 3, 3), np.uint8)


def test_broken_pictures_are_passed_over() -> None:
    source = Listed(iter([False, True, False, False, True]))
    assert [frame.shape for frame in read_frames(source, FrameBuffers(), 2)] == [(2, 3, 3)] * 2


def test_a_source_that_ends_is_a_sentence() -> None:
    with pytest.raises(CameraError, match=r"listed has ended; .*\.$"):
        read_frames(Listed(iter([True, False])), FrameBuffers(), 2)


def test_a_source_of_broken_pictures_alone_is_given_up() -> None:
    endless = iter(lambda: False, True)
    with pytest.raises(CameraError, match=f"listed gave {UNREADABLE} broken pictures in a row"):
        next_picture(Listed(endless), FrameBuffers())


@pytest.mark.timeout(120)
def test_a_broker_that_goes_is_reported_and_the_rest_is_measured(bundle_dir: Path, brokers: Brokers) -> None:
    broker = brokers.start()

    def pictures() -> Iterator[bool]:
        for number in count():
            if number == LEAST // 2:
                broker.kill()
            yield True

    classifier = Classifier(load_bundle(bundle_dir), ModelSettings(threads=1))
    maker = EventMaker("porch", "5f1c2e7a")
    with publisher(MqttSettings(url=broker.url), "porch") as publishing:
        assert publishing.destination == f"to the PUBACK of 127.0.0.1:{broker.port}"
        stages = stage_latencies(Listed(pictures()), FrameBuffers(), classifier, maker, publishing, 0.01)
    assert stages["publish"].what == f"to outbox, no PUBACK of 127.0.0.1:{broker.port}"
