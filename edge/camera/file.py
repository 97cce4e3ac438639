"""`file:PATH`: a video, a photo or a folder of photos; every picture is shown, none is dropped."""

from __future__ import annotations

from pathlib import Path

import cv2

from edge.camera.geometry import FrameBuffers, Geometry
from edge.camera.opencv import OpenCVSource
from edge.camera.source import DelegatingSource, Source, UnreadablePictureError
from edge.errors import CameraError, PhotoError
from edge.frames import Pixels
from edge.photos.decode import read_photo
from edge.photos.folders import photos_in
from edge.photos.header import is_photo

PHOTOS_PER_SECOND = 1.0
DEFAULT_VIDEO_FPS = 25.0  # of a video whose header states no usable rate


class FileSource(DelegatingSource):
    """Checks at each `open` whether the path is a video, a photo or a folder, and reads it from the beginning.

    Args:
        path: as written after `file:`; `~` is the home directory, `///path` is `/path`.
        geometry: how pictures are turned into frames.
        loop: start again at the end.
    """

    live = False

    def __init__(self, path: str, geometry: Geometry, *, loop: bool = False) -> None:
        super().__init__(f"file:{path}")
        self._path = Path(path.removeprefix("//")).expanduser()
        self._geometry = geometry
        self._loop = loop

    def _open_source(self) -> Source:
        source = self._recognised()
        source.open()
        self.fps = source.fps
        return source

    def _recognised(self) -> Source:
        if self._path.is_dir():
            try:
                # `is_file`: a dangling link in the folder is not an unreadable photo.
                photos = [photo for photo in photos_in(self._path) if photo.is_file()]
            except PhotoError as error:
                raise CameraError(str(error)) from error
            return PhotoSource(self.name, photos, self._geometry, loop=self._loop)
        if not self._path.is_file():
            raise CameraError(f"There is no file {self._path}; correct camera.source, or put a video or photo there.")
        try:
            with self._path.open("rb") as file:
                head = file.read(16)
        except OSError as error:
            raise CameraError(f"{self._path} cannot be read ({error.strerror}); correct its permissions.") from error
        if is_photo(head):
            return PhotoSource(self.name, [self._path], self._geometry, loop=self._loop)
        return VideoSource(self.name, self._path, self._geometry, loop=self._loop)


class PhotoSource:
    """Shows photos in their order; one that cannot be read is skipped, and left out of later rounds."""

    live = False
    fps = PHOTOS_PER_SECOND

    def __init__(self, name: str, photos: list[Path], geometry: Geometry, *, loop: bool) -> None:
        self.name = name
        self._photos = photos
        self._geometry = geometry
        self._loop = loop
        self._left: list[Path] = []  # of this round, the next one last

    def open(self) -> None:
        """Start with the first photo."""
        self._left = self._photos[::-1]

    def grab(self) -> bool:
        """Go to the next photo; False after the last."""
        if not self._left:
            if not self._photos:
                raise CameraError("None of the photos can be read; put others there.")
            if not self._loop:
                return False
            self.open()
        self._photo = self._left.pop()
        return True

    def retrieve(self, buffers: FrameBuffers) -> Pixels:
        """Read and decode it."""
        try:
            pixels = read_photo(self._photo)
        except PhotoError as error:
            self._photos.remove(self._photo)
            raise UnreadablePictureError(str(error)) from error
        return self._geometry.apply(pixels, buffers, rgb=True)

    def close(self) -> None:
        """No file is held open between two photos."""


class VideoSource(OpenCVSource):
    """Shows a video from its beginning to its end."""

    live = False
    advice = "it is neither a video nor a photo that OpenCV can read, so give another file"

    def __init__(self, name: str, path: Path, geometry: Geometry, *, loop: bool) -> None:
        super().__init__(name, geometry)
        self._path = path
        self._loop = loop
        self._any_grabbed = False  # since the beginning

    def open(self) -> None:
        """Start with the first picture."""
        super().open()
        self._any_grabbed = False
        fps = self._opened().get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0.01 <= fps <= 1000 else DEFAULT_VIDEO_FPS

    def grab(self) -> bool:
        """Go to the next picture; False after the last."""
        if not self._opened().grab():
            if not self._any_grabbed:
                raise CameraError(f"The video {self._path} holds no picture; give another file.")
            if not self._loop:
                return False
            self.open()  # works for every container; seeking to frame 0 does not
            return self.grab()
        self._any_grabbed = True
        return True

    def _open_capture(self) -> cv2.VideoCapture:
        return cv2.VideoCapture(str(self._path))
