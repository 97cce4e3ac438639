"""Crops, shrinks, rotates and flips pictures, the same way for every source, into buffers that are used again."""

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

# One frame is used by the consumer, one waits for it, and one is being filled.
BUFFERS = 3

# OpenCV's functions, called with the picture and `dst`, the array to fill, so that they allocate nothing.
Step = Callable[..., object]
COPY: Step = partial(cv2.copyTo, mask=None)


class FrameBuffers:
    """A pool of arrays, so that a frame needs no new memory.

    A ring buffer would not do: a slow consumer may keep its frame while the camera delivers many more.
    """

    def __init__(self) -> None:
        self._free: deque[Pixels] = deque(maxlen=BUFFERS)

    def borrow(self, height: int, width: int) -> Pixels:
        """An array (height, width, 3) uint8 with arbitrary contents; a new one only if none is free."""
        while self._free:
            pixels = self._free.popleft()
            if pixels.shape == (height, width, 3):
                return pixels  # an array of another shape dates from before a change of resolution: it is dropped
        return np.empty((height, width, 3), np.uint8)

    def give_back(self, pixels: Pixels) -> None:
        """Return an array whose frame is not needed any more."""
        self._free.append(pixels)


class Geometry:
    """Applies the settings' crop, size, rotation and flip, in this order.

    1. `crop` keeps a part of the picture, given in fractions of its width and height before rotation.
    2. `size` is the size that the device is asked for, before rotation too. A picture that is larger is shrunk to fit
       inside it. Pictures are never enlarged and never distorted.
    3. `rotate` turns clockwise, so 90 and 270 exchange width and height.
    4. `flip` mirrors the rotated picture.
    """

    def __init__(self, settings: CameraSettings) -> None:
        self._crop = settings.crop or (0.0, 0.0, 1.0, 1.0)
        self._size = settings.size
        # Each of the eight combinations is a transpose or none, then a flip along each axis or none.
        self._transpose = settings.rotate in (90, 270)
        horizontal = (settings.rotate in (90, 180)) ^ (settings.flip in ("horizontal", "both"))
        vertical = (settings.rotate in (180, 270)) ^ (settings.flip in ("vertical", "both"))
        self._flip = {(True, True): -1, (True, False): 1, (False, True): 0}.get((horizontal, vertical))
        self._planned_for: tuple[tuple[int, ...], bool] | None = None
        self._steps: list[tuple[Step, Pixels]] = []
        self._last = COPY
        self._shape = (0, 0)

    def apply(self, image: npt.NDArray[Any], buffers: FrameBuffers, *, rgb: bool = False) -> Pixels:
        """Turn a decoded picture into a frame's pixels, in a borrowed buffer.

        Args:
            image: (height, width, 3) or (height, width, 4) or (height, width) uint8; may be a view; is not changed.
            buffers: where the result's array comes from.
            rgb: the channels are red, green, blue; otherwise blue, green, red, as OpenCV decodes them.

        Returns:
            (height, width, 3) uint8 RGB, C-contiguous.

        Raises:
            CameraError: the array is not an 8-bit grey or colour picture.
        """
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
            raise CameraError(
                f"The camera delivers {image.dtype} arrays of shape {image.shape}; choose an 8-bit colour mode."
            )
        image = self._cropped(image)
        if self._planned_for != (image.shape, rgb):
            self._plan(image.shape, rgb)
        for step, scratch in self._steps:
            step(image, dst=scratch)
            image = scratch
        pixels = buffers.borrow(*self._shape)
        self._last(image, dst=pixels)
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
        """Choose the steps for pictures of this shape, and allocate their scratch arrays."""
        height, width = shape[:2]
        channels = shape[2] if len(shape) == 3 else 1
        steps: list[tuple[Step, tuple[int, ...]]] = []
        if (fitted := self.fitted(width, height)) != (width, height):
            width, height = fitted
            # First, so that the other steps touch fewer pixels.
            resize = partial(cv2.resize, dsize=fitted, interpolation=cv2.INTER_AREA)
            steps.append((resize, (height, width, *shape[2:])))
        if (code := _colour_code(channels, rgb)) is not None:
            steps.append((partial(cv2.cvtColor, code=code), (height, width, 3)))
        if self._transpose:
            width, height = height, width
            steps.append((cv2.transpose, (height, width, 3)))
        if self._flip is not None:
            steps.append((partial(cv2.flip, flipCode=self._flip), (height, width, 3)))
        steps = steps or [(COPY, (height, width, 3))]
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
