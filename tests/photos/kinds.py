"""Photos of every supported kind: each format, and the unusual variants that cameras and programs write."""

import io
import struct
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from edge.frames import Pixels

RED, GREEN, BLUE, YELLOW = (230, 20, 30), (20, 200, 40), (30, 40, 220), (240, 220, 20)
KINDS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")


def scene() -> Pixels:
    """A picture of 64 × 48 pixels with another colour in each quarter, so that a rotation or swapped channels show."""
    pixels = np.empty((48, 64, 3), np.uint8)
    pixels[:24, :32], pixels[:24, 32:], pixels[24:, :32], pixels[24:, 32:] = RED, GREEN, BLUE, YELLOW
    return pixels


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def writes_avif() -> bool:
    """Whether this Pillow does; Debian's do not."""
    Image.init()
    return "AVIF" in Image.SAVE


def encoded(kind: str, **options: object) -> bytes:
    return saved(Image.fromarray(scene()), kind, **options)


def corners(pixels: Pixels) -> list[tuple[int, ...]]:
    """The colours near the corners, row by row."""
    height, width = pixels.shape[:2]
    places = [(5, 5), (5, width - 6), (height - 6, 5), (height - 6, width - 6)]
    return [tuple(map(int, pixels[place])) for place in places]


def near(seen: list[tuple[int, ...]], wanted: list[tuple[int, int, int]], tolerance: int = 8) -> bool:
    return bool((np.abs(np.subtract(seen, wanted)) <= tolerance).all())


def sixteen_bits() -> bytes:
    deep = cv2.cvtColor(scene(), cv2.COLOR_RGB2BGR).astype(np.uint16) * 257
    return cv2.imencode(".png", deep)[1].tobytes()


def with_bytes_between_segments() -> bytes:
    """A JPEG with zeros behind a segment whose length is too small, as some programs write it."""
    return encoded("JPEG").replace(b"\xff\xdb", b"\0\0\0\xff\xdb", 1).replace(b"\xff\xc4", b"\xff\xff\xff\xc4", 1)


def os2_bmp() -> bytes:
    """A BMP with the header of 12 bytes, as OS/2 and Windows 2 write it."""
    rows = scene()[::-1, :, ::-1].tobytes()  # from the bottom, in BGR
    return struct.pack("<2sIIIIHHHH", b"BM", 26 + len(rows), 0, 26, 12, 64, 48, 1, 24) + rows


UNUSUAL: dict[str, Callable[[], bytes]] = {
    "alpha": lambda: saved(Image.fromarray(scene()).convert("RGBA"), "PNG"),
    "16-bit": sixteen_bits,
    "CMYK": lambda: saved(Image.fromarray(scene()).convert("CMYK"), "JPEG"),
    "palette": lambda: saved(Image.fromarray(scene()).quantize(8), "PNG"),
    "progressive": lambda: encoded("JPEG", progressive=True),
    "lossless WebP": lambda: encoded("WEBP", lossless=True),
    "bytes between the segments of a JPEG": with_bytes_between_segments,
    "BMP of OS/2": os2_bmp,
    "extended WebP": lambda: encoded("WEBP", exif=Image.Exif(), icc_profile=b"x" * 64),
}

# The stored picture for each EXIF orientation: corners row by row.
TURNS = {
    1: [RED, GREEN, BLUE, YELLOW],
    2: [GREEN, RED, YELLOW, BLUE],
    3: [YELLOW, BLUE, GREEN, RED],
    4: [BLUE, YELLOW, RED, GREEN],
    5: [RED, BLUE, GREEN, YELLOW],
    6: [BLUE, RED, YELLOW, GREEN],
    7: [YELLOW, GREEN, BLUE, RED],
    8: [GREEN, YELLOW, RED, BLUE],
}


def turned(orientation: int) -> bytes:
    """A JPEG with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded("JPEG", exif=exif)
