"""One picture from a camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured frame.

    `pixels` may be a view of a buffer that the capture thread uses again for the next frame: copy it to keep it.
    """

    pixels: Pixels  # (height, width, 3) uint8, RGB, C-contiguous
    captured_ns: int  # monotonic nanoseconds; for a file, start + its own timestamp
    sequence: int  # 0, 1, 2, …; a gap is a frame that was dropped for a newer one
    capture_s: float = 0.0  # seconds that reading and turning the frame took
