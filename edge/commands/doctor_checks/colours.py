"""What doctor does with a camera, in a child process: reads a picture, and checks that red and blue are in order.

The check of the colours compares two readings of one scene. The second is a V4L2 camera's own YUV, in which the colours
have a fixed order. Parts of the scene that are redder than the rest there have to be redder in the source's picture
too. For other cameras the answer says why they are not compared.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from edge.camera.geometry import FrameBuffers
from edge.camera.source import Source, make_source
from edge.errors import CameraError
from edge.frames import Pixels
from edge.photos.decode import quiet_opencv
from edge.settings.schema import CameraSettings

Order = Literal["right", "exchanged", "unknown"]
Redness = npt.NDArray[np.float64]  # (GRID, GRID): mean of red minus blue in each part of a picture

GRID = 8
GREY = 4.0  # of 255; a scene with less colour than this cannot be judged
ALIKE = 0.5  # correlation; the scene may move a little between the two readings
FIRST_FRAMES = 5  # may be dark or late


def first_picture(settings: CameraSettings) -> str:
    """A sentence with the name of the source and the size of its pictures.

    Raises:
        CameraError: the camera cannot be opened or delivers nothing.
    """
    source = make_source(settings)
    height, width, _ = _picture(source).shape
    return f"{source.name} gives {width} × {height}"


def compare_colours(
    settings: CameraSettings,
    *,
    make: Callable[[CameraSettings], Source] = make_source,
    read_yuyv: Callable[[Path, tuple[int, int]], npt.NDArray[np.uint8] | None] | None = None,
) -> tuple[Order, str]:
    """The order of the colours, and a sentence about it.

    Args:
        settings: of the camera.
        make: makes the source.
        read_yuyv: reads a V4L2 node as (height, width, 2) YUYV; returns None if it has no such format.

    Raises:
        CameraError: the camera cannot be opened or delivers nothing.
    """
    plain = settings.model_copy(update={"rotate": 0, "flip": "", "crop": ()})
    source = make(plain)
    pixels = _picture(source)
    scheme, _, where = source.name.partition(":")
    if scheme == "picamera2":
        return "right", "libcamera delivers red, green, blue, as requested"
    if scheme != "v4l2":
        return "unknown", f"not compared: the decoder of {scheme}: sources names the order of its colours"
    node = Path(f"/dev/video{where}" if where.isdigit() else where)
    yuyv = (read_yuyv or _read_yuyv)(node, plain.size)
    if yuyv is None:
        return "unknown", "not compared: the camera has no YUYV to compare with"
    return judge(redness_of_rgb(pixels), redness_of_yuyv(yuyv))


def judge(seen: Redness, reference: Redness) -> tuple[Order, str]:
    """The order of the colours in the source's picture, and a sentence about it, given both readings."""
    if np.abs(reference).mean() < GREY or np.abs(seen).mean() < GREY:
        return "unknown", "not compared: the scene is grey; show the camera something red or blue"
    alike = float((seen * reference).sum() / np.sqrt((seen**2).sum() * (reference**2).sum()))
    if alike > ALIKE:
        return "right", f"the order is right, judged by the camera's own YUV (agreement {alike:.2f})"
    if alike < -ALIKE:
        return "exchanged", f"Red and blue are exchanged, judged by the camera's own YUV (agreement {alike:.2f})."
    return "unknown", f"not compared: two readings of the scene are too different (agreement {alike:.2f})"


def redness_of_rgb(pixels: Pixels) -> Redness:
    """Red minus blue of (height, width, 3) RGB."""
    return _parts(pixels[..., 0].astype(np.float64) - pixels[..., 2])


def redness_of_yuyv(yuyv: npt.NDArray[np.uint8]) -> Redness:
    """Red minus blue of (height, width, 2) YUYV: Y, and Cb and Cr in turn (ITU-R BT.601)."""
    blue, red = yuyv[:, 0::2, 1].astype(np.float64) - 128, yuyv[:, 1::2, 1].astype(np.float64) - 128
    width = min(blue.shape[1], red.shape[1])
    return _parts(1.402 * red[:, :width] - 1.772 * blue[:, :width])


def _parts(difference: npt.NDArray[np.float64]) -> Redness:
    rows = np.array_split(difference, GRID)
    return np.array([[part.mean() for part in np.array_split(row, GRID, axis=1)] for row in rows])


def _picture(source: Source) -> Pixels:
    source.open()
    try:
        if not source.grab():
            raise CameraError(f"{source.name} has no picture.")
        for _ in range(1, FIRST_FRAMES):
            source.grab()
        return source.retrieve(FrameBuffers())
    finally:
        source.close()


def _read_yuyv(node: Path, size: tuple[int, int]) -> npt.NDArray[np.uint8] | None:
    quiet_opencv()
    capture = cv2.VideoCapture(str(node.resolve()), cv2.CAP_V4L2)
    try:
        wanted = cv2.VideoWriter.fourcc(*"YUYV")
        capture.set(cv2.CAP_PROP_FOURCC, wanted)
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
        capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        if int(capture.get(cv2.CAP_PROP_FOURCC)) != wanted:
            return None
        picture: Any = None
        for _ in range(FIRST_FRAMES):
            _, picture = capture.read()
        if picture is None or picture.ndim != 3 or picture.shape[2] != 2:
            return None
        yuyv: npt.NDArray[np.uint8] = np.asarray(picture, np.uint8)
        return yuyv
    finally:
        capture.release()
