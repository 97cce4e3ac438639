"""A video, a photo or a folder of photos as a source that is pulled: no picture is ever dropped."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from edge.camera.errors import UnreadablePictureError
from edge.camera.geometry import FrameBuffers, Geometry
from edge.errors import CameraError
from edge.frames import Pixels
from edge.photos.opencv_log import quiet_opencv

AnyArray = npt.NDArray[Any]  # as OpenCV decodes it; Geometry refuses what is not 8-bit
PHOTOS_PER_SECOND = 1.0
FALLBACK_FPS = 25.0  # of a video whose header does not tell
MAX_PHOTO_PIXELS = 64_000_000  # the largest sensor of a hobby camera; 192 MB decoded
PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})


class _Pictures(Protocol):
    fps: float

    def grab(self) -> bool: ...
    def retrieve(self) -> AnyArray: ...
    def close(self) -> None: ...


class FileSource:
    """`file:PATH`: a video, one photo, or a folder whose photos are shown in the order of their names.

    A photo that cannot be read is passed over, and left out of later rounds.

    Args:
        path: as written after `file:`; `~` is the home directory, `///path` is `/path`.
        geometry: how pictures are turned into frames.
        loop: begin again at the end.
    """

    live = False

    def __init__(self, path: str, geometry: Geometry, *, loop: bool = False) -> None:
        self.name = f"file:{path}"
        self.fps = 0.0
        self._path = Path(path.removeprefix("//")).expanduser()
        self._geometry = geometry
        self._loop = loop
        self._pictures: _Pictures | None = None

    def open(self) -> None:
        """Find out what the path is, and begin at its beginning.

        Raises:
            CameraError: it is missing, empty, or neither video nor photo.
        """
        self.close()
        quiet_opencv()
        if self._path.is_dir():
            photos = sorted(p for p in self._path.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES and p.is_file())
            if not photos:
                raise CameraError(f"The folder {self._path} holds no photos (.jpg, .png or .bmp); put some there.")
            self._pictures = _Photos(photos, self._loop)
        elif not self._path.is_file():
            raise CameraError(f"There is no file {self._path}; correct camera.source, or put a video or photo there.")
        elif _is_photo(self._path):
            self._pictures = _Photos([self._path], self._loop)
        else:
            self._pictures = _Video(self._path, self._loop)
        self.fps = self._pictures.fps

    def grab(self) -> bool:
        """Go to the next picture; False after the last."""
        if self._pictures is None:
            raise CameraError(f"{self.name} is not open.")
        return self._pictures.grab()

    def retrieve(self, buffers: FrameBuffers) -> Pixels:
        """Decode it."""
        if self._pictures is None:
            raise CameraError(f"{self.name} is not open.")
        return self._geometry.apply(self._pictures.retrieve(), buffers)

    def close(self) -> None:
        """Close the file."""
        pictures, self._pictures = self._pictures, None
        if pictures is not None:
            pictures.close()


class _Video:
    def __init__(self, path: Path, loop: bool) -> None:
        self._path = path
        self._loop = loop
        self._capture = self._begin()
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0.01 <= fps <= 1000 else FALLBACK_FPS
        self._decoded: AnyArray | None = None
        self._any = False  # a picture has come since the beginning

    def _begin(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise CameraError(f"{self._path} is neither a video nor a photo that OpenCV can read; give another file.")
        return capture

    def grab(self) -> bool:
        if not self._capture.grab():
            if not self._any:
                raise CameraError(f"The video {self._path} holds no picture; give another file.")
            if not self._loop:
                return False
            # Opening again works for every container; seeking to frame 0 does not.
            self._capture.release()
            self._capture, self._any = self._begin(), False
            return self.grab()
        self._any = True
        return True

    def retrieve(self) -> AnyArray:
        try:
            found, image = self._capture.retrieve(self._decoded)
        except cv2.error as error:
            raise UnreadablePictureError(f"A picture of the video {self._path} cannot be decoded.") from error
        if not found:
            raise UnreadablePictureError(f"A picture of the video {self._path} cannot be decoded.")
        self._decoded = image
        return image

    def close(self) -> None:
        self._capture.release()


class _Photos:
    fps = PHOTOS_PER_SECOND

    def __init__(self, paths: list[Path], loop: bool) -> None:
        self._paths = paths
        self._loop = loop
        self._next = 0
        self._bad: set[Path] = set()

    def grab(self) -> bool:
        if self._next == len(self._paths):
            self._paths = [path for path in self._paths if path not in self._bad]
            if not self._paths:
                raise CameraError("None of the photos can be read; put others there.")
            if not self._loop:
                return False
            self._next = 0
        self._next += 1
        return True

    def retrieve(self) -> AnyArray:
        path = self._paths[self._next - 1]
        try:
            return decode_photo(path)
        except UnreadablePictureError:
            self._bad.add(path)
            raise

    def close(self) -> None:
        """Nothing is held open."""


def decode_photo(path: Path) -> AnyArray:
    """A photo as (height, width, 3) uint8, BGR, turned as its EXIF orientation says.

    Raises:
        UnreadablePictureError: it is missing, damaged, or larger than `MAX_PHOTO_PIXELS`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadablePictureError(f"The photo {path} cannot be read ({error.strerror}).") from error
    width, height = _photo_size(data)
    # From the header, before anything is allocated: a few kilobytes can unpack to gigabytes.
    if not 0 < width * height <= MAX_PHOTO_PIXELS:
        raise UnreadablePictureError(
            f"The photo {path} is not a JPEG, PNG or BMP, or has more than {MAX_PHOTO_PIXELS // 1_000_000} megapixels."
        )
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise UnreadablePictureError(f"The photo {path} cannot be decoded; it is damaged.") from error
    if image is None:
        raise UnreadablePictureError(f"The photo {path} cannot be decoded; it is damaged.")
    return image


def _is_photo(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(8).startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"))
    except OSError as error:
        raise CameraError(f"{path} cannot be read ({error.strerror}); correct its permissions.") from error


def _photo_size(data: bytes) -> tuple[int, int]:
    """(width, height) from the header of a PNG, BMP or JPEG; (0, 0) of anything else."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack_from(">II", data, 16)
            return width, height
        if data.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", data, 18)
            return abs(width), abs(height)  # a negative height says that the rows begin at the top
        return _jpeg_size(data) if data.startswith(b"\xff\xd8\xff") else (0, 0)
    except (struct.error, IndexError):
        return 0, 0


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while True:  # ends with an IndexError or struct.error at the end of the data
        while data[at] != 0xFF:
            at += 1
        while data[at] == 0xFF:  # any number of fill bytes before a marker
            at += 1
        marker = data[at]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame, whatever the coding
            height, width = struct.unpack_from(">HH", data, at + 4)
            return width, height
        if marker in (0x01, *range(0xD0, 0xD9)):  # markers without a length
            at += 1
            continue
        at += 1 + struct.unpack_from(">H", data, at + 1)[0]
