"""`file:PATH`: a video, a photo or a folder of photos; every picture is shown, none is dropped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from edge.camera.geometry import Geometry
from edge.camera.mjpeg import MjpegSource, is_mjpeg
from edge.camera.photo_source import PhotoSource, Refused
from edge.camera.source import DelegatingSource, Source
from edge.camera.video import VideoSource
from edge.errors import CameraError
from edge.photos.folders import photos_in
from edge.photos.header import is_photo
from edge.photos.kinds import HEAD_BYTES


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
        self._refused: Refused = {}  # photos that were reported, which are not again when the source is opened again

    def _open_source(self) -> Source:
        source = self._recognised()
        source.open()
        return source

    def _recognised(self) -> Source:
        if self._is_url and not self._path.exists():
            self._path = Path(unquote(str(self._path)))
        if self._path.is_dir():
            return self._photo_source(lambda: photos_in(self._path), self._path)
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
            return self._photo_source(lambda: [self._path], None)
        return VideoSource(self.name, self._path, self._geometry, loop=self._loop)

    def _photo_source(self, photos: Callable[[], list[Path]], folder: Path | None) -> PhotoSource:
        return PhotoSource(self.name, photos, folder, self._geometry, loop=self._loop, refused=self._refused)
