"""Pixels into the model's buffer: one resize of the region that is kept, written where the model reads it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from edge.frames import Pixels
from edge.vision.bundle import InputContract


@dataclass(frozen=True, slots=True)
class InputBuffer:
    """A padded picture whose border never changes; made once and used for every frame."""

    pixels: Pixels  # (1, side, side, 3) uint8, RGB
    interior: Pixels  # (size, size, 3), a view into `pixels`
    tensor: torch.Tensor  # the same memory as `pixels`


def new_buffer(contract: InputContract) -> InputBuffer:
    """A buffer that holds the border's colour everywhere."""
    pixels = np.empty((1, contract.side, contract.side, 3), np.uint8)
    pixels[:] = contract.border_rgb
    start, stop = contract.border[0], contract.border[0] + contract.size
    return InputBuffer(pixels, pixels[0, start:stop, start:stop], torch.from_numpy(pixels))


def kept_region(height: int, width: int, contract: InputContract) -> tuple[int, int, int]:
    """(top, left, side) of the square that resizing to `resize` and cutting out the centre would keep."""
    side = max(1, round(min(height, width) * contract.size / contract.resize))
    return (height - side) // 2, (width - side) // 2, side


def fill(buffer: InputBuffer, pixels: Pixels, contract: InputContract) -> None:
    """Resize the kept region of `pixels`, (height, width, 3) uint8 RGB, into the buffer's interior."""
    top, left, side = kept_region(pixels.shape[0], pixels.shape[1], contract)
    region = pixels[top : top + side, left : left + side]
    # OpenCV writes through the row stride of `interior`; nothing is allocated.
    cv2.resize(
        region, (contract.size, contract.size), dst=buffer.interior, interpolation=_interpolation(side, contract)
    )


def _interpolation(side: int, contract: InputContract) -> int:
    # AREA averages every pixel that shrinks away, as torchvision's antialias does; LINEAR would skip some.
    return cv2.INTER_AREA if side > contract.size else cv2.INTER_LINEAR
