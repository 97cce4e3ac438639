"""Tests doctor's check that red and blue are not swapped, which compares pictures with the camera's own YUV."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge.camera.geometry import FrameBuffers
from edge.camera.source import Source
from edge.commands.doctor_checks.colours import Order, compare_colours
from edge.frames import Pixels
from edge.settings.schema import CameraSettings

BARS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200], [180, 180, 20]], np.uint8)
SCENE: Pixels = np.repeat(np.repeat(BARS[np.newaxis], 120, axis=0), 40, axis=1)  # (120, 160, 3) RGB


class Camera:
    """Shows one scene."""

    live = True
    fps = 0.0

    def __init__(self, name: str, scene: Pixels) -> None:
        self.name = name
        self._scene = scene
        self.opened = False

    def open(self) -> None:
        self.opened = True

    def grab(self) -> bool:
        return self.opened

    def retrieve(self, buffers: FrameBuffers) -> Pixels:
        return self._scene

    def close(self) -> None:
        self.opened = False


def yuyv_of(rgb: Pixels) -> npt.NDArray[np.uint8]:
    """ITU-R BT.601, full range, as webcams convert."""
    red, green, blue = (rgb[..., channel].astype(float) for channel in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    cb, cr = (blue - luma) / 1.772 + 128, (red - luma) / 1.402 + 128
    chroma = np.where(np.arange(rgb.shape[1]) % 2 == 0, cb, cr)
    return np.stack([luma, chroma], axis=-1).round().clip(0, 255).astype(np.uint8)


def order_of(scene: Pixels, name: str = "v4l2:0", reading: npt.NDArray[np.uint8] | None = None) -> tuple[Order, str]:
    camera = Camera(name, scene)

    def make(settings: CameraSettings) -> Source:
        assert (settings.rotate, settings.flip, settings.crop) == (0, "", ())
        return camera

    def read(node: Path, size: tuple[int, int]) -> npt.NDArray[np.uint8] | None:
        assert not camera.opened, "a V4L2 camera has one reader"
        assert node == Path("/dev/video0")
        return reading

    finding = compare_colours(CameraSettings(source="v4l2:0", rotate=90, flip="both"), make=make, read_yuyv=read)
    assert not camera.opened
    return finding


def test_red_that_is_red_is_right() -> None:
    assert order_of(SCENE, reading=yuyv_of(SCENE))[0] == "right"


def test_red_and_blue_exchanged_are_found_even_when_the_scene_has_moved() -> None:
    exchanged = np.ascontiguousarray(SCENE[..., ::-1])
    moved = np.roll(SCENE, 10, axis=1)
    order, sentence = order_of(exchanged, reading=yuyv_of(moved))
    assert order == "exchanged"
    assert sentence.startswith("Red and blue are exchanged")


@pytest.mark.parametrize("scene", [np.full((120, 160, 3), 128, np.uint8), np.zeros((120, 160, 3), np.uint8)])
def test_a_grey_scene_gives_no_finding(scene: Pixels) -> None:
    order, sentence = order_of(scene, reading=yuyv_of(scene))
    assert order == "unknown"
    assert "red or blue" in sentence


def test_another_scene_gives_no_finding() -> None:
    other = np.ascontiguousarray(np.roll(SCENE, 40, axis=1))
    assert order_of(SCENE, reading=yuyv_of(other))[0] == "unknown"


def test_where_there_is_no_second_reading_it_says_so() -> None:
    assert order_of(SCENE)[0] == "unknown"
    assert order_of(SCENE, name="rtsp://camera")[0] == "unknown"
    assert order_of(SCENE, name="picamera2:0")[0] == "right"
