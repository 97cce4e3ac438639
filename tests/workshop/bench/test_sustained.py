"""Tests that the sustained rate is measured with the daemon's own stages, including the capture thread."""

from pathlib import Path

import numpy as np
import pytest

from edge.daemon.event_maker import EventMaker
from edge.errors import CameraError
from edge.settings.schema import CameraSettings, ModelSettings
from edge.status.snapshot import Status
from edge.vision.bundle import GOLDEN, load_bundle
from edge.vision.classifier import Classifier
from edge.workshop.bench.publish import Publisher
from edge.workshop.bench.sustained import FramesInMemory, camera_fps, pipeline_fps

MAKER = EventMaker("porch", "5f1c2e7a")
SHORT_S = 0.05


@pytest.fixture(scope="module")
def classifier(bundle_dir: Path) -> Classifier:
    return Classifier(load_bundle(bundle_dir), ModelSettings(threads=1))


@pytest.mark.timeout(120)
def test_each_frame_is_captured_before_it_is_classified(classifier: Classifier, bundle_dir: Path) -> None:
    camera = CameraSettings(source=f"file:{bundle_dir / GOLDEN}", loop=True)
    assert camera_fps(camera, classifier, MAKER, Publisher(None, "", "nowhere"), SHORT_S)[0] > 0
    once = camera.model_copy(update={"loop": False})
    with pytest.raises(CameraError, match="has ended"):
        camera_fps(once, classifier, MAKER, Publisher(None, "", "nowhere"), SHORT_S)


def test_frames_from_memory_use_no_capture_thread(classifier: Classifier) -> None:
    frames = FramesInMemory([np.zeros((240, 320, 3), np.uint8)])
    classified, captured = pipeline_fps(frames, Status(), classifier, MAKER, Publisher(None, "", "nowhere"), SHORT_S)
    assert classified > 0
    assert captured == 0


@pytest.mark.timeout(120)
def test_a_camera_that_is_not_there_is_a_sentence(classifier: Classifier, tmp_path: Path) -> None:
    camera = CameraSettings(source=f"file:{tmp_path / 'nowhere.jpg'}")
    with pytest.raises(CameraError, match="There is no file"):
        camera_fps(camera, classifier, MAKER, Publisher(None, "", "nowhere"), SHORT_S)
