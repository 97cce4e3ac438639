"""Shows the photos of a folder, or a single one, in the order of their names; one a second of the source's time."""

from __future__ import annotations

import stat
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

from edge.camera.geometry import FrameBuffers, Geometry
from edge.camera.source import UnreadablePictureError
from edge.errors import CameraError, PhotoError
from edge.frames import Pixels
from edge.photos.decode import read_photo

PHOTOS_PER_SECOND = 1.0
NONE_READABLE = "None of the photos can be read; put others there."

Version = tuple[int, ...]  # changes with a file's content, name and permissions
Refused = dict[Path, Version]


class PhotoSource:
    """Shows what is in the folder when its turn comes: photos may be added, removed, renamed or replaced meanwhile.

    A photo that cannot be read is reported once, and shown when it has changed, such as when its copy is complete.

    Args:
        name: of the source.
        photos: lists the photos in their order; raises PhotoError.
        folder: listed again whenever it has changed; None for a single photo.
        geometry: how photos are turned into frames.
        loop: begin again after the last.
        refused: photos that were reported already; kept by the caller while the source is closed.
    """

    live = False

    def __init__(
        self,
        name: str,
        photos: Callable[[], list[Path]],
        folder: Path | None,
        geometry: Geometry,
        *,
        loop: bool,
        refused: Refused,
    ) -> None:
        self.name = name
        self._list, self._folder = photos, folder
        self._geometry, self._loop = geometry, loop
        self._refused = refused
        self._failed: Refused = {}  # by the disk; tried again once the source is opened again
        self._photos: list[Path] = []
        self._next = 0
        self._photo = Path()
        self._version: Version | None = None
        self._listed: int | None = None  # when the folder had changed last
        self._shown = self._shown_in_round = 0
        self.moment_s = 0.0

    def open(self) -> None:
        """Start with the first photo."""
        self._begin()

    def grab(self) -> bool:
        """Go to the next photo; False after the last.

        Raises:
            CameraError: none of the photos can be read, or the folder cannot.
        """
        if self._folder is not None and _changed_at(self._folder) != self._listed:
            self._update()
            self._next = bisect_right(self._photos, self._photo)
        if not self._advance():
            if not self._shown_in_round:
                raise CameraError(NONE_READABLE)
            if not self._loop:
                return False
            self._begin()
            if not self._advance():
                raise CameraError(NONE_READABLE)
        self.moment_s = self._shown / PHOTOS_PER_SECOND
        self._shown += 1
        self._shown_in_round += 1
        return True

    def retrieve(self, buffers: FrameBuffers) -> Pixels:
        """Read and decode it."""
        try:
            pixels = read_photo(self._photo)
        except PhotoError as error:
            self._shown -= 1
            self._shown_in_round -= 1
            if self._version is not None:
                cause = error.__cause__
                by_disk = isinstance(cause, OSError) and not isinstance(cause, PermissionError)
                (self._failed if by_disk else self._refused)[self._photo] = self._version
            raise UnreadablePictureError(str(error)) from error
        return self._geometry.apply(pixels, buffers, rgb=True)

    def close(self) -> None:
        """No file is held open between two photos."""

    def _begin(self) -> None:
        self._update()
        self._next = self._shown_in_round = 0

    def _update(self) -> None:
        self._listed = None if self._folder is None else _changed_at(self._folder)
        try:
            self._photos = self._list()
        except PhotoError as error:
            raise CameraError(str(error)) from error
        for gone in self._refused.keys() - set(self._photos):
            del self._refused[gone]

    def _advance(self) -> bool:
        """Go to the next photo that is there and was not refused; False if there is none in this round."""
        while self._next < len(self._photos):
            self._photo = self._photos[self._next]
            self._next += 1
            self._version = _version(self._photo)
            if self._version is not None and self._version not in (
                self._refused.get(self._photo),
                self._failed.get(self._photo),
            ):
                return True
        return False


def _changed_at(folder: Path) -> int | None:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None


def _version(photo: Path) -> Version | None:
    """None if there is no such file, or it is a pipe or a device."""
    try:
        found = photo.stat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
