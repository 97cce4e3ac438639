"""JPEGs in a row as a video, as `rpicam-vid --codec mjpeg` and network cameras write them.

FFmpeg fills what is missing of a torn picture with grey and does not report it, and OpenCV guesses the rate in a
different way in each version. So the file is cut into JPEGs here, and each is decoded and checked as a photo is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from edge.camera.geometry import FrameBuffers, Geometry
from edge.camera.source import UnreadablePictureError
from edge.errors import CameraError, PhotoError
from edge.frames import Pixels
from edge.photos.decode import MAX_BYTES, decode_photo
from edge.photos.header import photo_size

SUFFIXES = (".mjpeg", ".mjpg")
FPS = 25.0  # such a file states none; FFmpeg assumes the same
BEGIN, END, SCAN, APPLICATION = b"\xff\xd8\xff", b"\xff\xd9", 0xDA, range(0xE0, 0xF0)
CHUNK_BYTES = 1 << 18


def is_mjpeg(path: Path, head: bytes) -> bool:
    """Whether a file that begins with `head` is JPEGs in a row and no photo, nor a video of another container.

    Cameras append smaller pictures to a photo, such as a preview. So without the name of a video, the second JPEG has
    to be as large as the first, and the first must not announce others (CIPA DC-007, "MPF").

    Raises:
        OSError: it cannot be read.
    """
    named = path.suffix.lower() in SUFFIXES
    if not head.startswith(BEGIN):
        return named and not head.startswith((b"RIFF", b"\x1aE\xdf\xa3")) and head[4:8] != b"ftyp"
    if named:
        return True
    with path.open("rb") as file:
        first_two = list(islice(jpegs(file), 2))
    sizes = [photo_size(jpeg) for jpeg in first_two]
    return len(sizes) == 2 and sizes[1] is not None and sizes[0] in (sizes[1], None) and b"MPF\0" not in first_two[0]


def jpegs(file: BinaryIO) -> Iterator[bytes]:
    """Each JPEG in a file. One that is torn reaches to the beginning of the next; what is between them is skipped."""
    read, at_end = bytearray(), False
    while True:
        begin = read.find(BEGIN)
        if begin >= 0 and (end := _end(read, begin)):
            if end > begin + 2:  # else two begins in a row
                yield bytes(read[begin:end])
            del read[:end]
            continue
        if at_end:
            if begin >= 0:
                yield bytes(read[begin:])
            return
        if begin < 0:
            del read[: -len(BEGIN)]
        elif len(read) - begin > MAX_BYTES:
            del read[: begin + len(BEGIN)]
        chunk = file.read(CHUNK_BYTES)
        at_end = not chunk
        read += chunk


def _end(read: bytearray, begin: int) -> int:
    """Where the JPEG at `begin` ends, or is torn; 0 if that has not been read yet."""
    at = begin + 2
    # Over the segments, because one may contain a whole JPEG as a thumbnail; within the scan no marker can occur.
    while True:
        if at + 4 > len(read):
            return 0
        marker = read[at + 1]
        if read[at] != 0xFF or marker == BEGIN[1]:
            return max(0, read.find(BEGIN, begin + 2))
        if marker in (SCAN, END[1]):
            break
        after = at + (1 if marker == 0xFF else 2 + int.from_bytes(read[at + 2 : at + 4], "big"))
        if marker not in APPLICATION and (torn := read.find(BEGIN, at, after)) >= 0:
            return torn
        at = after
    end = read.find(END, at)
    torn = read.find(BEGIN, at, end if end >= 0 else len(read))
    return torn if torn >= 0 else end + 2 if end >= 0 else 0


class MjpegSource:
    """Shows one JPEG after the other; a torn one counts as unreadable."""

    live = False

    def __init__(self, name: str, path: Path, geometry: Geometry, *, loop: bool) -> None:
        self.name = name
        self.moment_s = 0.0
        self._path = path
        self._geometry = geometry
        self._loop = loop
        self._file: BinaryIO | None = None
        self._jpegs: Iterator[bytes] = iter(())
        self._jpeg = b""
        self._grabbed = 0  # pictures of all rounds
        self._readable = 0  # of this round, as far as is known

    def open(self) -> None:
        """Start with the first picture."""
        self.close()
        self._file = self._path.open("rb")
        self._jpegs = jpegs(self._file)
        self._readable = 0

    def grab(self) -> bool:
        """Go to the next picture; False after the last."""
        jpeg = next(self._jpegs, None)
        if jpeg is None:
            if not self._readable:
                raise CameraError(f"The video {self._path} holds no picture that can be decoded; give another file.")
            if not self._loop:
                return False
            self.open()
            return self.grab()
        self._jpeg = jpeg
        self.moment_s = self._grabbed / FPS
        self._grabbed += 1
        self._readable += 1
        return True

    def retrieve(self, buffers: FrameBuffers) -> Pixels:
        """Decode it."""
        try:
            pixels = decode_photo(self._jpeg, f"A picture of {self.name}")
        except PhotoError as error:
            self._readable -= 1
            raise UnreadablePictureError(str(error)) from error
        return self._geometry.apply(pixels, buffers, rgb=True)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._file = None
