"""How a picture is cropped, shrunk and turned on its way to a frame, and the buffers that frames live in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import CameraError
from edge.frames import Pixels
from edge.settings.schema import CameraSettings

# One frame is in the consumer's hands, one waits for it, and one is being filled.
BUFFERS = 3

Step = Callable[[Pixels, Pixels], object]  # reads the first array, fills the second


class FrameBuffers:
    """Arrays that are lent for a frame and come back when nobody looks at it any more.

    A ring would not do: a slow consumer may hold its frame for longer than the camera needs to go round.
    """

    def __init__(self) -> None:
        self._free: deque[Pixels] = deque(maxlen=BUFFERS)

    def borrow(self, height: int, width: int) -> Pixels:
        """An array (height, width, 3) uint8 whose contents are arbitrary; a new one only where none is free."""
        while self._free:
            pixels = self._free.popleft()
            if pixels.shape == (height, width, 3):
                return pixels  # one of another shape is from before the camera changed its resolution
        return np.empty((height, width, 3), np.uint8)

    def give_back(self, pixels: Pixels) -> None:
        """The frame that lived in `pixels` is not needed any more."""
        self._free.append(pixels)


class Geometry:
    """Crop, size, rotation and flip, in this order, the same for every source.

    1. `crop` cuts its fractions out of the picture as the sensor sees it.
    2. `size` is what the device is asked for. A picture that is still larger is shrunk to fit inside it; it is
       never enlarged and never distorted. Like `crop` it is meant as the sensor sees it, before any rotation.
    3. `rotate` turns clockwise, so that 90 or 270 exchange width and height.
    4. `flip` mirrors the turned picture.
    """

    def __init__(self, settings: CameraSettings) -> None:
        self._crop = settings.crop or (0.0, 0.0, 1.0, 1.0)
        self._size = settings.size
        # The eight ways to turn a picture are: exchange rows and columns or not, then mirror along each axis or not.
        self._transpose = settings.rotate in (90, 270)
        horizontal = (settings.rotate in (90, 180)) ^ (settings.flip in ("horizontal", "both"))
        vertical = (settings.rotate in (180, 270)) ^ (settings.flip in ("vertical", "both"))
        self._flip = {(True, True): -1, (True, False): 1, (False, True): 0}.get((horizontal, vertical))
        self._planned_for: tuple[tuple[int, ...], bool] | None = None
        self._steps: list[tuple[Step, Pixels]] = []
        self._last: Step = _copy
        self._shape = (0, 0)

    def apply(self, image: npt.NDArray[Any], buffers: FrameBuffers, *, rgb: bool = False) -> Pixels:
        """Turn a decoded picture into a frame's pixels, in a borrowed buffer.

        Args:
            image: (height, width, 3) or (…, 4) or (height, width) uint8; need not be contiguous; is not changed.
            buffers: where the result's array comes from.
            rgb: the channels are red, green, blue; else OpenCV's blue, green, red.

        Raises:
            CameraError: the array is not a picture.
        """
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
            raise CameraError(
                f"The camera delivers {image.dtype} arrays of shape {image.shape}; choose an 8-bit colour mode."
            )
        image = self._cropped(image)
        if self._planned_for != (image.shape, rgb):
            self._plan(image.shape, rgb)
        for step, scratch in self._steps:
            step(image, scratch)
            image = scratch
        pixels = buffers.borrow(*self._shape)
        self._last(image, pixels)
        return pixels

    def fitted(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) shrunk to fit inside `size`, its aspect kept."""
        scale = min(1.0, self._size[0] / width, self._size[1] / height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def _cropped(self, image: Pixels) -> Pixels:
        x, y, width, height = self._crop
        rows, columns = image.shape[:2]
        left, top = min(int(x * columns), columns - 1), min(int(y * rows), rows - 1)
        return image[top : top + max(1, round(height * rows)), left : left + max(1, round(width * columns))]

    def _plan(self, shape: tuple[int, ...], rgb: bool) -> None:
        """Choose the steps for this shape and make their scratch arrays, once until the shape changes."""
        height, width = shape[:2]
        channels = shape[2] if len(shape) == 3 else 1
        steps: list[tuple[Step, tuple[int, ...]]] = []
        if (fitted := self.fitted(width, height)) != (width, height):
            width, height = fitted
            # First, so that everything after it touches fewer pixels; area averages what it drops.
            steps.append((partial(_resize, size=fitted), (height, width, *shape[2:])))
        if (code := _colour_code(channels, rgb)) is not None:
            steps.append((partial(_convert, code=code), (height, width, 3)))
        if self._transpose:
            width, height = height, width
            steps.append((_transpose, (height, width, 3)))
        if self._flip is not None:
            steps.append((partial(_flip, code=self._flip), (height, width, 3)))
        steps = steps or [(_copy, (height, width, 3))]
        self._steps = [(step, np.empty(to, np.uint8)) for step, to in steps[:-1]]
        self._last, self._shape = steps[-1][0], (height, width)
        self._planned_for = (shape, rgb)


def _colour_code(channels: int, rgb: bool) -> int | None:
    if rgb and channels == 3:
        return None
    codes = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_RGBA2RGB if rgb else cv2.COLOR_BGRA2RGB}
    if channels not in codes:
        raise CameraError(f"The camera delivers pictures of {channels} channels; choose a colour mode.")
    return codes[channels]


# Each is given an array of the right shape, so that OpenCV fills it and allocates nothing.
def _resize(image: Pixels, into: Pixels, size: tuple[int, int]) -> None:
    cv2.resize(image, size, dst=into, interpolation=cv2.INTER_AREA)


def _convert(image: Pixels, into: Pixels, code: int) -> None:
    cv2.cvtColor(image, code, dst=into)


def _transpose(image: Pixels, into: Pixels) -> None:
    cv2.transpose(image, dst=into)


def _flip(image: Pixels, into: Pixels, code: int) -> None:
    cv2.flip(image, code, dst=into)


def _copy(image: Pixels, into: Pixels) -> None:
    np.copyto(into, image)
