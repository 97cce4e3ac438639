"""One picture from a camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured frame.

    `pixels` may be a view of a buffer that the capture thread uses again: it stays untouched until
    the next frame is taken, so whoever wants to keep it copies it.
    """

    pixels: Pixels  # (height, width, 3) uint8, RGB, C-contiguous
    captured_ns: int  # monotonic nanoseconds; of a file source index / fps after its start
    sequence: int  # 0, 1, 2, …; a gap is a frame that was dropped for a newer one
    capture_s: float = 0.0  # seconds that reading and turning the frame took
