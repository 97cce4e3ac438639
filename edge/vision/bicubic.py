"""Computes the filter that makes averaging and OpenCV's cubic sampling equal to torchvision's bicubic resize."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_PHASES = 32  # positions between two pixels that the fit looks at
_OPENCV, _PILLOW = -0.75, -0.5  # their parameters of the cubic; torchvision antialiases as Pillow does


def bicubic_taps(scale: float, factor: int) -> Floats:
    """The weights of a symmetric filter, with the sum 1, for one axis of a picture averaged by `factor`.

    They are a least-squares fit over all positions between pixels: after the filter and `cv2.INTER_CUBIC` each pixel
    has nearly the weight that it has in torchvision's resize.

    Args:
        scale: pixels of the original picture for one pixel of the result.
        factor: pixels that were averaged into one before the filter.
    """
    radius = math.ceil(2 * max(scale, 1) / factor)
    reach = 2 * radius + 4  # in averaged pixels
    centres = (np.arange(_PHASES) + 0.5)[:, None] / _PHASES - 0.5
    sampled = _cubic(np.arange(-reach, reach + 1) - centres, _OPENCV)
    pixels = (np.arange(-reach * factor, (reach + 1) * factor) + 0.5) / factor - 0.5
    wanted = _cubic((pixels - centres) * factor / max(scale, 1), _PILLOW)
    wanted = (wanted / wanted.sum(1, keepdims=True)).reshape(_PHASES, -1, factor).sum(2)
    shifted = [np.roll(sampled, shift, 1) for shift in range(-radius, radius + 1)]
    pairs = [shifted[radius], *(shifted[radius - i] + shifted[radius + i] for i in range(1, radius + 1))]
    half = np.linalg.lstsq(np.stack([pair.ravel() for pair in pairs], 1), wanted.ravel(), rcond=None)[0]
    taps = np.concatenate([half[:0:-1], half])
    return np.asarray(taps / taps.sum())


def _cubic(x: Floats, a: float) -> Floats:
    x = np.abs(x)
    inner = (a + 2) * x**3 - (a + 3) * x**2 + 1
    outer = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x < 1, inner, np.where(x < 2, outer, 0.0))
