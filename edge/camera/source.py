"""What every camera source does: its interface, its errors, and `make_source`, which makes the one that a URI names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from edge.camera.geometry import FrameBuffers, Geometry
from edge.errors import CameraError
from edge.frames import Pixels
from edge.settings.schema import CameraSettings


class UnreadablePictureError(CameraError):
    """One picture cannot be decoded. The source stays open, and the next picture is tried."""


class LostCameraError(CameraError):
    """The camera is gone, and another call into its driver would hang or abort. Only a new process can use it again."""


class Source(Protocol):
    """Where pictures come from; used by one thread, and opened again after a failure.

    `grab` and `retrieve` are two steps, as in OpenCV. A picture that exceeds the limit of the frame rate has to be
    taken off the device but need not be decoded, and the moment between the two is the picture's time.
    """

    name: str  # the URI, credentials masked
    live: bool  # False for a file, whose next picture is read when the previous one was taken

    @property
    def moment_s(self) -> float:
        """Of a file's newest picture, in seconds since its first one; goes on through loops. 0 for a live source."""

    def open(self) -> None:
        """Open the device or file, with a time-out if the library has one.

        Raises:
            CameraError: it cannot be opened; the sentence says what to do.
        """

    def grab(self) -> bool:
        """Wait for the next picture; False if a file has ended.

        Raises:
            CameraError: the camera is gone or has not delivered in time; it has to be closed and opened again.
            LostCameraError: the camera is gone, and the process has to end.
        """

    def retrieve(self, buffers: FrameBuffers) -> Pixels:
        """The grabbed picture, cropped, shrunk, rotated and flipped: (height, width, 3) uint8, RGB, C-contiguous.

        Raises:
            UnreadablePictureError: this picture cannot be decoded.
            CameraError: the source has failed; it has to be closed and opened again.
        """

    def close(self) -> None:
        """Release the device; does nothing if it is not open."""


def make_source(settings: CameraSettings) -> Source:
    """The source that `settings.source` names, not yet opened. Only its own module is imported."""
    scheme, _, rest = settings.source.partition(":")
    geometry = Geometry(settings)
    if scheme == "file":
        from edge.camera.file import FileSource

        return FileSource(rest, geometry, loop=settings.loop)
    if scheme == "v4l2":
        from edge.camera.v4l2 import V4L2Source

        return V4L2Source(rest, settings, geometry)
    if scheme in ("rtsp", "rtsps"):
        from edge.camera.rtsp import RtspSource

        return RtspSource(settings, geometry)
    if scheme == "csi":
        from edge.camera.csi import CsiSource

        return CsiSource(int(rest.removeprefix("//")), settings, geometry)
    if scheme == "picamera2":
        from edge.camera.raspberry import Picamera2Source

        return Picamera2Source(int(rest or 0), settings, geometry)
    from edge.camera.auto import AutoSource

    return AutoSource(settings, make_source)


class DelegatingSource(ABC):
    """A source that chooses at each `open` which other source to read from."""

    live = True

    def __init__(self, name: str) -> None:
        self.name = name
        self._source: Source | None = None

    @property
    def moment_s(self) -> float:
        """The moment of a file's grabbed picture."""
        return self._opened().moment_s

    @abstractmethod
    def _open_source(self) -> Source:
        """Choose the source to read from and open it.

        Raises:
            CameraError: there is none, or it cannot be opened.
        """

    def open(self) -> None:
        """Choose a source and open it."""
        self.close()
        self._source = self._open_source()

    def grab(self) -> bool:
        """Wait for the next picture; False at the end of a file."""
        return self._opened().grab()

    def retrieve(self, buffers: FrameBuffers) -> Pixels:
        """The grabbed picture."""
        return self._opened().retrieve(buffers)

    def close(self) -> None:
        """Close the source."""
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def _opened(self) -> Source:
        if self._source is None:
            raise CameraError(f"{self.name} is not open.")
        return self._source
