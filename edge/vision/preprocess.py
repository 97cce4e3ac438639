"""Resizes and crops pixels straight into the model's input buffer, as torchvision's preprocessing does.

The networks were trained on pictures from an antialiasing resize; with OpenCV's INTER_AREA 9 of 100 photos get another
top-1 label. Here a photo is averaged by whole factors, blurred as much as the remaining factor needs, and sampled at
torchvision's positions. Bicubic uses another filter instead of the blur. torch's own resize is not used, because a
thread's first work for torch can free the thread pool that inference is using.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.frames import Pixels
from edge.vision.bicubic import bicubic_taps
from edge.vision.manifest import InputContract


@dataclass(frozen=True, slots=True)
class Plan:
    """How pictures of one size are resized, and the memory for it; made once for each size."""

    shape: tuple[int, int]  # (height, width) of the picture
    top: int  # top and left of the region that is read, in pixels of the picture
    left: int
    height: int
    width: int
    factor: int  # pixels averaged into one, on each axis
    sigma: float  # of the 3 × 3 blur after averaging; 0: none
    taps: npt.NDArray[np.float64] | None  # of bicubic's filter, which replaces the blur
    matrix: npt.NDArray[np.float64]  # (2, 3) from the interior's coordinates to those of the blurred region
    averaged: Pixels  # the region after each step
    blurred: Pixels


@dataclass(slots=True)
class InputBuffer:
    """A padded picture with a fixed border; allocated once and used again, by one thread at a time."""

    pixels: Pixels  # (1, side, side, 3) uint8, RGB
    interior: Pixels  # (size, size, 3), a view into `pixels`
    plan: Plan | None = None  # of the newest picture


def new_buffer(contract: InputContract, pixels: Pixels | None = None) -> InputBuffer:
    """A buffer filled with the border's colour, in the memory of `pixels`, (1, side, side, 3), if that is given."""
    if pixels is None:
        pixels = np.empty((1, contract.side, contract.side, 3), np.uint8)
    pixels[:] = contract.border_rgb
    start, stop = contract.border[0], contract.border[0] + contract.size
    return InputBuffer(pixels, pixels[0, start:stop, start:stop])


def fill(buffer: InputBuffer, pixels: Pixels, contract: InputContract) -> None:
    """Resize the kept region of `pixels`, (height, width, 3) uint8 RGB, into the buffer's interior."""
    height, width = pixels.shape[:2]
    plan = buffer.plan
    if plan is None or plan.shape != (height, width):
        plan = buffer.plan = make_plan(height, width, contract)
    region = pixels[plan.top : plan.top + plan.height, plan.left : plan.left + plan.width]
    if plan.factor > 1:
        # A whole factor is OpenCV's fast path.
        cv2.resize(region, plan.averaged.shape[1::-1], dst=plan.averaged, interpolation=cv2.INTER_AREA)
        region = plan.averaged
    if plan.sigma:
        cv2.GaussianBlur(region, (3, 3), plan.sigma, dst=plan.blurred, borderType=cv2.BORDER_REPLICATE)
        region = plan.blurred
    if plan.taps is not None:
        cv2.sepFilter2D(region, -1, plan.taps, plan.taps, dst=plan.blurred, borderType=cv2.BORDER_REPLICATE)
        region = plan.blurred
    # Written through the row stride of `interior`; nothing is allocated.
    cv2.warpAffine(
        region,
        plan.matrix,
        (contract.size, contract.size),
        dst=buffer.interior,
        flags=(cv2.INTER_LINEAR if plan.taps is None else cv2.INTER_CUBIC) | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def make_plan(height: int, width: int, contract: InputContract) -> Plan:
    """The plan for this picture size; it samples where torchvision's Resize(resize) and CenterCrop(size) do."""
    starts, steps = zip(*(_axis(length, min(height, width), contract) for length in (height, width)), strict=True)
    bicubic = contract.interpolation == "bicubic"
    # Bicubic is sharper than an average over a whole step, so it averages over half of one.
    factor = max(1, int(min(steps) / (2 if bicubic else 1) + 1e-6))
    taps = bicubic_taps(sum(steps) / 2, factor) if bicubic else None
    # The region includes a margin for the filter, and is a multiple of `factor` where there is room.
    margin = (2 if taps is None else len(taps) // 2 + 2) * factor
    spans = []
    for start, step, length in zip(starts, steps, (height, width), strict=True):
        first = max(0, int(start) - margin)
        last = min(length, math.ceil(start + contract.size * step) + margin)
        count = max((last - first) // factor * factor, min(factor, length))
        spans.append((first, count))
    (top, rows), (left, columns) = spans
    scale_y, scale_x = (step / factor for step in steps)
    offset_y, offset_x = ((start - first) / factor for start, (first, _) in zip(starts, spans, strict=True))
    # Pixel i's centre lies at i + 0.5.
    matrix = np.array([[scale_x, 0, offset_x + scale_x / 2 - 0.5], [0, scale_y, offset_y + scale_y / 2 - 0.5]])
    sigma = 0.0 if bicubic else _sigma((scale_x + scale_y) / 2, factor)
    averaged, blurred = np.empty((2, rows // factor, columns // factor, 3), np.uint8)
    return Plan((height, width), top, left, rows, columns, factor, sigma, taps, matrix, averaged, blurred)


def _axis(length: int, short: int, contract: InputContract) -> tuple[float, float]:
    """(first position, step) in the picture of the interior's pixels along one axis."""
    resized = int(contract.resize * length / short)  # rounded down, as torchvision does
    skipped = round((resized - contract.size) / 2)
    step = length / resized
    return skipped * step, step


def _sigma(rest: float, factor: int) -> float:
    """The sigma of the blur with which linear sampling in steps of `rest` (1 to 2) is closest to torchvision's.

    torchvision's filter is a triangle `rest` wide. The neighbours' weight is a least-squares fit over all positions
    between pixels; it is lower after averaging, which has smoothed the picture already.
    """
    excess = max(0.0, rest - 1)
    weight = 0.34 * excess - 0.126 * excess**2 - (0.08 if factor > 1 else 0.0)
    if weight < 0.01:
        return 0.0
    # A Gaussian's kernel is (q, 1, q) / (1 + 2q) with q = exp(−1 / 2σ²).
    return math.sqrt(-0.5 / math.log(weight / (1 - 2 * weight)))
