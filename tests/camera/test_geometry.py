"""Tests that pictures of every source are cropped, shrunk and turned in the same way, and never distorted."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from edge.camera.geometry import FrameBuffers, Geometry
from edge.errors import CameraError
from edge.frames import Pixels
from edge.settings.schema import CameraSettings

# Four corners of four colours, in RGB: red green / blue white.
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners(width: int = 64, height: int = 32) -> Pixels:
    picture = np.empty((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = RED
    picture[: height // 2, width // 2 :] = GREEN
    picture[height // 2 :, : width // 2] = BLUE
    picture[height // 2 :, width // 2 :] = WHITE
    return picture


def seen(pixels: Pixels) -> list[tuple[int, ...]]:
    """The colours of the corners: top left, top right, bottom left, bottom right."""
    return [tuple(int(v) for v in pixels[y, x]) for y in (1, -2) for x in (1, -2)]


def turned(picture_rgb: Pixels, **settings: object) -> Pixels:
    bgr = cv2.cvtColor(picture_rgb, cv2.COLOR_RGB2BGR)
    return Geometry(CameraSettings(**settings)).apply(bgr, FrameBuffers())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "expected", "shape"),
    [
        ({}, [RED, GREEN, BLUE, WHITE], (32, 64)),
        ({"rotate": 90}, [BLUE, RED, WHITE, GREEN], (64, 32)),
        ({"rotate": 180}, [WHITE, BLUE, GREEN, RED], (32, 64)),
        ({"rotate": 270}, [GREEN, WHITE, RED, BLUE], (64, 32)),
        ({"flip": "horizontal"}, [GREEN, RED, WHITE, BLUE], (32, 64)),
        ({"flip": "vertical"}, [BLUE, WHITE, RED, GREEN], (32, 64)),
        ({"flip": "both"}, [WHITE, BLUE, GREEN, RED], (32, 64)),
        ({"rotate": 90, "flip": "horizontal"}, [RED, BLUE, GREEN, WHITE], (64, 32)),
        ({"rotate": 180, "flip": "both"}, [RED, GREEN, BLUE, WHITE], (32, 64)),
        # The crop is of what the sensor sees, before it is turned: its left half.
        ({"crop": (0, 0, 0.5, 1), "rotate": 90}, [BLUE, RED, BLUE, RED], (32, 32)),
        # At most `size`, with the aspect kept: 64 × 32 into 32 × 32 is 32 × 16.
        ({"size": (32, 32)}, [RED, GREEN, BLUE, WHITE], (16, 32)),
        ({"size": (32, 32), "rotate": 90}, [BLUE, RED, WHITE, GREEN], (32, 16)),
        ({"size": (640, 480)}, [RED, GREEN, BLUE, WHITE], (32, 64)),
    ],
)
def test_crop_then_size_then_rotate_then_flip(
    settings: dict[str, object], expected: list[tuple[int, ...]], shape: tuple[int, int]
) -> None:
    pixels = turned(corners(), **settings)
    assert pixels.shape == (*shape, 3)
    assert seen(pixels) == expected
    assert pixels.flags.c_contiguous
    assert pixels.dtype == np.uint8


@hypothesis_settings(deadline=None)  # a busy machine is no failure
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    rotate=st.sampled_from([0, 90, 180, 270]),
    flip=st.sampled_from(["", "horizontal", "vertical", "both"]),
    crop=st.sampled_from([(), (0.0, 0.0, 1.0, 1.0), (0.99, 0.99, 0.01, 0.01), (0.3, 0.1, 0.4, 0.9)]),
    size=st.tuples(st.integers(16, 90), st.integers(16, 90)),
    seed=st.integers(0, 9),
)
def test_it_is_what_numpy_would_have_done(
    width: int, height: int, rotate: int, flip: str, crop: tuple[float, ...], size: tuple[int, int], seed: int
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    pixels = turned(picture, rotate=rotate, flip=flip, crop=crop, size=size)
    assert pixels.flags.c_contiguous
    x, y, w, h = crop or (0.0, 0.0, 1.0, 1.0)
    left, top = int(x * width), int(y * height)
    part = picture[top : top + max(1, round(h * height)), left : left + max(1, round(w * width))]
    scale = min(1.0, size[0] / part.shape[1], size[1] / part.shape[0])
    wanted = (max(1, round(part.shape[0] * scale)), max(1, round(part.shape[1] * scale)))
    assert pixels.shape[:2] == (wanted if rotate in (0, 180) else wanted[::-1])
    if scale == 1.0:  # nothing was averaged, so each pixel can be compared
        part = np.rot90(part, -rotate // 90)
        part = part[:, ::-1] if flip in ("horizontal", "both") else part
        part = part[::-1] if flip in ("vertical", "both") else part
        assert np.array_equal(pixels, part)


def test_grey_and_alpha_become_rgb() -> None:
    geometry = Geometry(CameraSettings())
    assert seen(geometry.apply(np.full((16, 16), 7, np.uint8), FrameBuffers())) == [(7, 7, 7)] * 4
    bgra = cv2.cvtColor(corners(), cv2.COLOR_RGB2BGRA)
    assert seen(geometry.apply(bgra, FrameBuffers())) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("settings", [{}, {"rotate": 90}, {"size": (32, 32)}, {"flip": "vertical"}])
def test_a_camera_that_already_gives_rgb_is_not_swapped(settings: dict[str, object]) -> None:
    geometry = Geometry(CameraSettings(**settings))  # type: ignore[arg-type]
    bgr = cv2.cvtColor(corners(), cv2.COLOR_RGB2BGR)
    from_bgr = geometry.apply(bgr, FrameBuffers()).copy()
    assert np.array_equal(geometry.apply(corners(), FrameBuffers(), rgb=True), from_bgr)
    rgba = cv2.cvtColor(corners(), cv2.COLOR_RGB2RGBA)
    assert np.array_equal(geometry.apply(rgba, FrameBuffers(), rgb=True), from_bgr)


@pytest.mark.parametrize("shape", [(0, 4, 3), (4,), (2, 4, 4, 3), (4, 4, 2)])
def test_what_is_no_picture_is_a_sentence(shape: tuple[int, ...]) -> None:
    with pytest.raises(CameraError, match="choose"):
        Geometry(CameraSettings()).apply(np.zeros(shape, np.uint8), FrameBuffers())
    with pytest.raises(CameraError, match="8-bit"):
        Geometry(CameraSettings()).apply(np.zeros((4, 4, 3), np.uint16), FrameBuffers())


def test_a_change_of_resolution_is_followed() -> None:
    geometry, buffers = Geometry(CameraSettings(rotate=90)), FrameBuffers()
    for width, height in ((64, 32), (32, 64), (640, 480), (64, 32)):
        pixels = geometry.apply(cv2.cvtColor(corners(width, height), cv2.COLOR_RGB2BGR), buffers)
        assert pixels.shape == (width, height, 3)
        assert seen(pixels) == [BLUE, RED, WHITE, GREEN]
        buffers.give_back(pixels)


def test_buffers_are_used_again_and_only_one_of_the_right_shape() -> None:
    buffers = FrameBuffers()
    first, second = buffers.borrow(4, 6), buffers.borrow(4, 6)
    assert first.ctypes.data != second.ctypes.data
    buffers.give_back(first)
    assert buffers.borrow(4, 6) is first
    buffers.give_back(second)
    assert buffers.borrow(6, 4).shape == (6, 4, 3)
