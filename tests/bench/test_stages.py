"""Pictures that cannot be read cost nothing but themselves, and a source that gives no more is a sentence."""

from collections.abc import Iterator

import numpy as np
import pytest

from edge.bench.stages import UNREADABLE, next_picture, read_frames
from edge.camera.errors import UnreadablePictureError
from edge.camera.geometry import FrameBuffers
from edge.errors import CameraError
from edge.frames import Pixels


class Told:
    """A source that gives what it is told: a picture (True), or a broken one (False), until there is no more."""

    name, live, fps = "told", False, 1.0

    def __init__(self, pictures: Iterator[bool]) -> None:
        self._pictures = pictures
        self._good = False

    def open(self) -> None: ...

    def close(self) -> None: ...

    def grab(self) -> bool:
        good = next(self._pictures, None)
        self._good = good is True
        return good is not None

    def retrieve(self, buffers: FrameBuffers) -> Pixels:
        if not self._good:
            raise UnreadablePictureError("It is damaged.")
        return np.zeros((2, 3, 3), np.uint8)


def test_broken_pictures_are_passed_over() -> None:
    source = Told(iter([False, True, False, False, True]))
    assert [frame.shape for frame in read_frames(source, FrameBuffers(), 2)] == [(2, 3, 3)] * 2


def test_a_source_that_ends_is_a_sentence() -> None:
    with pytest.raises(CameraError, match=r"told has ended; .*\.$"):
        read_frames(Told(iter([True, False])), FrameBuffers(), 2)


def test_a_source_of_broken_pictures_alone_is_given_up() -> None:
    endless = iter(lambda: False, True)
    with pytest.raises(CameraError, match=f"told gave {UNREADABLE} broken pictures in a row"):
        next_picture(Told(endless), FrameBuffers())
