"""Photos from files and requests: correct RGB pixels, or one sentence that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edge.errors import PhotoError
from edge.frames import Pixels
from edge.photos.header import is_whole, photo_size
from edge.photos.opencv_log import quiet_opencv

MAX_BYTES = 64 << 20
QUALITY = 80  # of the JPEG that the page and Home Assistant show
MAX_PIXELS = 50_000_000  # 150 MB decoded: more than any camera board takes, less than a small board's memory


def read_photo(path: Path) -> Pixels:
    """The photo in `path`, (height, width, 3) uint8 RGB, turned as its EXIF says.

    Raises:
        PhotoError: it cannot be read, is not a photo, is damaged, or would not fit into memory.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)  # a pipe or a device tells no size
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or error
        raise PhotoError(f"{path} cannot be read: {reason}; name a photo that is there.") from error
    if len(content) > MAX_BYTES:
        raise PhotoError(f"{path} has more than {MAX_BYTES >> 20} MB; give a smaller photo.")
    return decode_photo(content, str(path))


def decode_photo(content: bytes, name: str) -> Pixels:
    """The photo whose file holds `content`, as `read_photo`; `name` is for the message."""
    if not content:
        raise PhotoError(f"{name} is empty; give a JPEG, PNG, WebP, BMP or TIFF photo.")
    size = photo_size(content)
    if size is None:
        raise PhotoError(f"{name} is not a photo; give a JPEG, PNG, WebP, BMP or TIFF photo.")
    width, height = size
    # Checked before anything is decoded: a few kB can describe gigabytes.
    if width * height > MAX_PIXELS:
        raise PhotoError(
            f"{name} has {width}×{height} pixels; make it smaller than {MAX_PIXELS // 1_000_000} megapixels."
        )
    if not is_whole(content):
        raise PhotoError(f"{name} is truncated; copy it again.")
    quiet_opencv()
    try:
        # COLOR: 8 bits, three channels, alpha dropped, EXIF orientation applied.
        bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        bgr = None
    if bgr is None:
        raise PhotoError(f"{name} is damaged or of a kind that cannot be decoded; save it again as a JPEG or PNG.")
    return np.ascontiguousarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr), dtype=np.uint8)


def encode_photo(pixels: Pixels, side: int) -> bytes:
    """(height, width, 3) uint8 RGB as JPEG, made smaller where a side is longer than `side`."""
    height, width = pixels.shape[:2]
    if (scale := side / max(height, width)) < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return encoded.tobytes()
