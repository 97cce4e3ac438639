"""Recognises a JPEG that was cut off and then given an end marker, as programs for recovery write it."""

from __future__ import annotations

import cv2
import numpy as np

from edge.frames import Pixels
from edge.photos.whole import has_one_scan, jpeg_end

_GREYS = (127, 128, 129, 64, 65)  # the last two: of CMYK, where ink and black are each in the middle
# Not 0xFF, which begins a marker. No end marker follows it, because libjpeg reports unused data
# in front of one on stderr.
_FILLER = bytes(range(1, 255)) * 16


def is_filled_up(content: bytes, pixels: Pixels) -> bool:
    """Whether the end of the compressed data is missing, so that the decoder filled the rest of `pixels` with grey.

    That is suspected where the last pixels are of that grey. Other compressed data are then put behind the present
    ones: a whole photo does not use them, a torn one changes.

    Args:
        content: a JPEG that has an end marker.
        pixels: what it was decoded to, not turned.
    """
    end = jpeg_end(content)
    if end is None or not has_one_scan(content) or not np.isin(pixels[-1, -4:], _GREYS).all():
        return False
    before, after = (_eighth(data) for data in (content, content[:end].rstrip(b"\xff") + _FILLER))
    return before is None or after is None or not np.array_equal(before, after)


def _eighth(content: bytes) -> Pixels | None:
    """Each block of a JPEG as one pixel, which takes a third of the time."""
    flags = cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.imdecode(np.frombuffer(content, np.uint8), flags)  # type: ignore[return-value]
