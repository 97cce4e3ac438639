"""Pictures on which INT8 is compared with FP32: the user's photos, and six views of each shipped photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from edge.frames import Pixels
from edge.photos.decode import read_photo

GOLDEN_PHOTO = Path(__file__).parents[1] / "golden.jpg"  # of every bundle, unless --golden names another
SHIPPED = Path(__file__).parents[1] / "cc0"

Picture = Callable[[], Pixels]  # reads one picture, (height, width, 3) uint8 RGB, so that only one is in memory


def of_photos(photos: Sequence[Path]) -> list[Picture]:
    """The photos as they are."""
    return [partial(read_photo, photo) for photo in photos]


def shipped_views(golden: Path = GOLDEN_PHOTO) -> list[Picture]:
    """Six views of each photo in `cc0/`, of the shipped golden photo, and of `golden` if that is another one.

    A network with the user's own classes may recognise no shipped photo, but it does recognise its golden photo.
    """
    photos = [*sorted(SHIPPED.glob("*.jpg")), *dict.fromkeys((GOLDEN_PHOTO, golden))]
    return [partial(_view, photo, change) for photo in photos for change in _CHANGES]


def _view(photo: Path, change: Callable[[Pixels], Pixels]) -> Pixels:
    return np.ascontiguousarray(change(read_photo(photo)))


def _mirrored(pixels: Pixels) -> Pixels:
    return pixels[:, ::-1]


def _centre(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    return pixels[height // 8 : height - height // 8, width // 8 : width - width // 8]


def _corner(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    return _mirrored(pixels[: height * 4 // 5, : width * 4 // 5])


def _dark(pixels: Pixels) -> Pixels:
    return cv2.convertScaleAbs(pixels, alpha=0.6).astype(np.uint8, copy=False)


def _small(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    size = (max(1, width // 2), max(1, height // 2))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


_CHANGES: tuple[Callable[[Pixels], Pixels], ...] = (lambda pixels: pixels, _mirrored, _centre, _corner, _dark, _small)
