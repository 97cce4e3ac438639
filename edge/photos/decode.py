"""Decodes photos to pixels, and encodes pixels as JPEG.

Photos of commands, `file:` sources, uploads and MQTT requests all pass `decode_photo`, so that the formats, limits and
error messages are the same for all; for uploads and MQTT requests it runs in the child process of `decoder.py`.
"""

from __future__ import annotations

import os
import re
import struct
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from edge.errors import PhotoError, PhotoMemoryError, PhotoTooLargeError
from edge.frames import Pixels
from edge.photos.animated_webp import first_picture
from edge.photos.header import photo_size
from edge.photos.kinds import AVIF, GIF, Kind, kind_of, raw_kind
from edge.photos.orientation import orientation, upright
from edge.photos.tiff_tags import tiff_tags
from edge.photos.torn_jpeg import is_filled_up
from edge.photos.whole import is_complete
from edge.printable import escaped

KINDS = "JPEG, PNG, WebP, BMP or TIFF"  # as messages name them
MAX_BYTES = 64 << 20  # of a file
MAX_PIXELS = 50_000_000  # 150 MB when decoded
_JPEG = b"\xff\xd8"
# 8 bits and three channels, by `reduced`; the JPEG decoder averages while it decodes, so it needs as much less memory.
_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_LEAST_SIDE = 512  # pixels of the shorter side, which models shrink to some 256
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
        raise PhotoError(f"{escaped(path)} cannot be read: {reason}; name a photo that is there.") from error
    if len(content) > MAX_BYTES:
        raise PhotoTooLargeError(f"{escaped(path)} has more than {MAX_BYTES >> 20} MB; give a smaller photo.")
    return decode_photo(content, escaped(path))


def decode_photo(content: bytes, name: str, reduced: int = 1) -> Pixels:
    """Decode a JPEG, PNG, WebP, BMP or TIFF, and a GIF or AVIF where OpenCV does; of an animation the first picture.

    Returns:
        (height, width, 3) uint8 RGB, C-contiguous, rotated as its EXIF orientation asks. Grey becomes three equal
        channels, 16 bits become 8, transparency is dropped.

    Args:
        content: the bytes of the file.
        name: what the error messages call the photo.
        reduced: decode a JPEG to 1/2, 1/4 or 1/8 of its width and height, averaged; see `fitting_reduction`.

    Raises:
        PhotoError: it is not a photo, truncated or damaged.
        PhotoTooLargeError: it has more than MAX_PIXELS.
        PhotoMemoryError: there is not enough memory for it.
    """
    if not content:
        raise PhotoError(f"{name} is empty; give a {KINDS} photo.")
    if (kind := _unread(content)) is not None:
        raise PhotoError(f"{name} is {kind.what}, which cannot be decoded here; {kind.remedy}.")
    picture = _whole_picture(content, name)
    quiet_opencv()
    try:
        flags = _FLAGS[reduced] | cv2.IMREAD_IGNORE_ORIENTATION
        bgr = cv2.imdecode(np.frombuffer(picture, np.uint8), flags)
        if bgr is None:
            raise damaged(name)
        if content.startswith(_JPEG) and is_filled_up(content, np.asarray(bgr, np.uint8)):
            raise _truncated(name)
        rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr), np.uint8)
        return np.ascontiguousarray(upright(rgb, orientation(content)))
    except (cv2.error, MemoryError) as error:
        if isinstance(error, MemoryError) or error.code == cv2.Error.StsNoMem:
            raise needs_more_memory(name) from error
        raise damaged(name) from error


def fitting_reduction(content: bytes, memory_bytes: int) -> int:
    """The least `reduced` of `decode_photo` with which a photo fits into memory, its pixels counted twice.

    1 for what is not a JPEG, and where even the largest reduction that leaves enough for a model does not suffice.
    """
    try:
        size = photo_size(content) if content.startswith(_JPEG) else None
    except (struct.error, IndexError):  # the file ends within a header; `decode_photo` reports it
        size = None
    if size is None:
        return 1
    needed, left = 2 * 3 * size[0] * size[1], memory_bytes - len(content)
    enough = [n for n in _FLAGS if n == 1 or min(size) >= n * _LEAST_SIDE]
    return next((n for n in enough if needed <= left * n**2), 1)


def _unread(content: bytes) -> Kind | None:
    """The kind of a file that this OpenCV does not read, if it is known."""
    if content[:4] in (b"II*\0", b"MM\0*") and (raw := raw_kind(tiff_tags(content))) is not None:
        return raw
    kind = kind_of(content)
    return None if kind in (GIF, AVIF) and (reads(kind) or photo_size(content) is None) else kind


@cache
def reads(kind: Kind) -> bool:
    """Whether this OpenCV was built with what it needs to read a GIF or an AVIF."""
    codec = "GIF" if kind is GIF else "AVIF"
    return re.search(rf"^\s+{codec}:\s+(?!NO\b)\S", cv2.getBuildInformation(), re.MULTILINE) is not None


def _whole_picture(content: bytes, name: str) -> bytes:
    """What is to be decoded, checked by its header: the photo, or the first picture of an animated WebP."""
    try:
        picture = first_picture(content)
        size = photo_size(picture)
        complete = size is not None and is_complete(content) and is_complete(picture)
    except (struct.error, IndexError):  # the file ends within a header
        raise _truncated(name) from None
    if size is None:
        raise PhotoError(f"{name} is not a photo; give a {KINDS} photo.")
    width, height = size
    most = MAX_PIXELS // 2 if kind_of(content) in (GIF, AVIF) else MAX_PIXELS  # their decoders need more memory
    if width * height > most:
        raise PhotoTooLargeError(
            f"{name} has {width}×{height} pixels; make it smaller than {most // 1_000_000} megapixels."
        )
    if not width * height:
        raise damaged(name)
    if not complete:
        raise _truncated(name)
    return picture


def _truncated(name: str) -> PhotoError:
    return PhotoError(f"{name} is truncated; copy it again.")


def needs_more_memory(name: str) -> PhotoMemoryError:
    """The error for a photo that takes more memory than it may."""
    return PhotoMemoryError(f"{name} needs more memory than a photo may take; make it smaller.")


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
