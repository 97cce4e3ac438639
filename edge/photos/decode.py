"""Decodes photos to pixels, and encodes pixels as JPEG.

Photos of commands, `file:` sources, uploads and MQTT requests all pass `decode_photo`, so that the formats, limits and
error messages are the same for all; for uploads and MQTT requests it runs in the child process of `decoder.py`.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from edge.errors import PhotoError, PhotoTooLargeError
from edge.frames import Pixels
from edge.photos.header import is_complete, photo_size

MAX_BYTES = 64 << 20  # of a file
MAX_PIXELS = 50_000_000  # 150 MB when decoded
JPEG_QUALITY = 80  # of what the page and Home Assistant show


def read_photo(path: Path) -> Pixels:
    """The photo in the file `path`; see `decode_photo`.

    Raises:
        PhotoError: it cannot be read, or `decode_photo` refuses it.
        PhotoTooLargeError: it has more than MAX_BYTES or MAX_PIXELS.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)  # the size of a pipe or a device is not known before
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or error
        raise PhotoError(f"{path} cannot be read: {reason}; name a photo that is there.") from error
    if len(content) > MAX_BYTES:
        raise PhotoTooLargeError(f"{path} has more than {MAX_BYTES >> 20} MB; give a smaller photo.")
    return decode_photo(content, str(path))


def decode_photo(content: bytes, name: str) -> Pixels:
    """Decode a JPEG, PNG, WebP, BMP or TIFF.

    Returns:
        (height, width, 3) uint8 RGB, C-contiguous, rotated as its EXIF orientation asks. Grey becomes three equal
        channels, 16 bits become 8, transparency is dropped.

    Args:
        content: the bytes of the file.
        name: what the error messages call the photo.

    Raises:
        PhotoError: it is not a photo, truncated or damaged.
        PhotoTooLargeError: it has more than MAX_PIXELS, or there is not enough memory for it.
    """
    if not content:
        raise PhotoError(f"{name} is empty; give a JPEG, PNG, WebP, BMP or TIFF photo.")
    size = photo_size(content)
    if size is None:
        raise PhotoError(f"{name} is not a photo; give a JPEG, PNG, WebP, BMP or TIFF photo.")
    width, height = size
    if width * height > MAX_PIXELS:
        raise PhotoTooLargeError(
            f"{name} has {width}×{height} pixels; make it smaller than {MAX_PIXELS // 1_000_000} megapixels."
        )
    if not is_complete(content):
        raise PhotoError(f"{name} is truncated; copy it again.")
    quiet_opencv()
    try:
        # COLOR: 8 bits, three channels, EXIF orientation applied.
        bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if bgr is None:
            raise damaged(name)
        return np.ascontiguousarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr), dtype=np.uint8)
    except (cv2.error, MemoryError) as error:
        if isinstance(error, MemoryError) or error.code == cv2.Error.StsNoMem:
            raise PhotoTooLargeError(f"{name} needs more memory than a photo may take; make it smaller.") from error
        raise damaged(name) from error


def damaged(name: str) -> PhotoError:
    """The error for a photo that OpenCV does not decode."""
    return PhotoError(f"{name} is damaged or of a kind that cannot be decoded; save it again as a JPEG or PNG.")


def quiet_opencv() -> None:
    """Silence the messages that OpenCV and FFmpeg write to stderr; the project's own errors report the same faults.

    They write at each attempt to open a camera, hundreds of lines an hour while it is unplugged.
    """
    # PyPI's wheels have the function in cv2.utils.logging, Debian's package in cv2.
    getattr(cv2.utils, "logging", cv2).setLogLevel(0)  # silent
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; read at FFmpeg's first use


def encode_photo(pixels: Pixels, side: int) -> bytes:
    """A JPEG of (height, width, 3) uint8 RGB, shrunk so that no side is longer than `side` pixels."""
    height, width = pixels.shape[:2]
    if (scale := side / max(height, width)) < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()
