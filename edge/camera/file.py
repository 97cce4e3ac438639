"""`file:PATH`: a video, a photo or a folder of photos; every picture is shown, none is dropped."""

from __future__ import annotations

import contextlib
from pathlib import Path
from urllib.parse import unquote

from edge.camera.geometry import FrameBuffers, Geometry
from edge.camera.mjpeg import MjpegSource, is_mjpeg
from edge.camera.source import DelegatingSource, Source, UnreadablePictureError
from edge.camera.video import VideoSource
from edge.errors import CameraError, PhotoError
from edge.frames import Pixels
from edge.photos.decode import read_photo
from edge.photos.folders import photos_in
from edge.photos.header import is_photo
from edge.photos.kinds import HEAD_BYTES

PHOTOS_PER_SECOND = 1.0


class FileSource(DelegatingSource):
    """Checks at each `open` whether the path is a video, a photo or a folder, and reads it from the beginning.

    Args:
        path: as written after `file:`; `~` is the home directory. `///path` and `//localhost/path` are `/path`, which
            may be percent-encoded unless there is a file of that name.
        geometry: how pictures are turned into frames.
        loop: start again at the end.
    """

    live = False

    def __init__(self, path: str, geometry: Geometry, *, loop: bool = False) -> None:
        super().__init__(f"file:{path}")
        self._is_url = path.startswith("//")
        self._path = Path(path.replace("//localhost/", "///", 1).removeprefix("//") if self._is_url else path)
        with contextlib.suppress(RuntimeError):  # a user without a home directory, or of whom there is no account
            self._path = self._path.expanduser()
        self._geometry = geometry
        self._loop = loop

    def _open_source(self) -> Source:
        source = self._recognised()
        source.open()
        return source

    def _recognised(self) -> Source:
        if self._is_url and not self._path.exists():
            self._path = Path(unquote(str(self._path)))
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
                head = file.read(HEAD_BYTES)
            mjpeg = is_mjpeg(self._path, head)
        except OSError as error:
            raise CameraError(f"{self._path} cannot be read ({error.strerror}); correct its permissions.") from error
        if mjpeg:
            return MjpegSource(self.name, self._path, self._geometry, loop=self._loop)
        if is_photo(head) and not head.startswith(b"GIF8"):  # an animation, to be shown as a video
            return PhotoSource(self.name, [self._path], self._geometry, loop=self._loop)
        return VideoSource(self.name, self._path, self._geometry, loop=self._loop)


class PhotoSource:
    """Shows photos in their order; one that cannot be read is skipped, and left out of later rounds."""

    live = False

    def __init__(self, name: str, photos: list[Path], geometry: Geometry, *, loop: bool) -> None:
        self.name = name
        self._photos = photos
        self._geometry = geometry
        self._loop = loop
        self._left: list[Path] = []  # of this round, the next one last
        self._shown = 0
        self.moment_s = 0.0

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
        self.moment_s = self._shown / PHOTOS_PER_SECOND
        self._shown += 1
        return True

    def retrieve(self, buffers: FrameBuffers) -> Pixels:
        """Read and decode it."""
        try:
            pixels = read_photo(self._photo)
        except PhotoError as error:
            self._photos.remove(self._photo)
            self._shown -= 1
            raise UnreadablePictureError(str(error)) from error
        return self._geometry.apply(pixels, buffers, rgb=True)

    def close(self) -> None:
        """No file is held open between two photos."""
