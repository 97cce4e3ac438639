"""What a camera source is, and which one a URI names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from edge.camera.geometry import FrameBuffers, Geometry
from edge.errors import CameraError
from edge.frames import Pixels
from edge.settings.schema import CameraSettings


class Source(Protocol):
    """Where pictures come from; used by one thread, reopened after a failure.

    `grab` and `retrieve` are two steps, as in OpenCV, because a picture that a frame-rate limit does not
    want has to be taken off the device but need not be decoded, and because the moment between the
    two is when the picture was there.
    """

    name: str  # the URI, credentials masked
    live: bool  # False: a file, pulled at the pace of whoever takes the frames
    fps: float  # a file's own rate, known once it is open and the time base of its frames; 0 of a live source

    def open(self) -> None:
        """Open the device or file, with a time-out of its own where that is possible.

        Raises:
            CameraError: it cannot be opened; the sentence says what to do.
        """

    def grab(self) -> bool:
        """Wait for the next picture; False: a file has ended.

        Raises:
            CameraError: the camera is gone or has not delivered in time; it has to be closed and opened again.
        """

    def retrieve(self, buffers: FrameBuffers) -> Pixels:
        """The grabbed picture, cropped, shrunk, turned: (height, width, 3) uint8, RGB, C-contiguous.

        Raises:
            UnreadablePictureError: this one is broken.
        """

    def close(self) -> None:
        """Let go of the device; harmless when it is not open."""


def make_source(settings: CameraSettings) -> Source:
    """The source that `settings.source` names, not yet opened; nothing is imported for the others."""
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
    from edge.camera.auto import found_cameras

    return AutoSource(settings, make_source, found_cameras)


class AutoSource:
    """`auto`: the first camera that opens, looked for again at each open.

    Args:
        settings: with `source = "auto"`.
        make: makes the source of a URI.
        candidates: the URIs to try, in order; asked at each open.
    """

    live = True
    fps = 0.0

    def __init__(
        self,
        settings: CameraSettings,
        make: Callable[[CameraSettings], Source],
        candidates: Callable[[], Iterable[str]],
    ) -> None:
        self.name = "auto"
        self._settings = settings
        self._make = make
        self._candidates = candidates
        self._source: Source | None = None

    def open(self) -> None:
        """Open the first camera that can be.

        Raises:
            CameraError: there is none, or none opens; then the first one's error.
        """
        self.close()
        first_error: CameraError | None = None
        for uri in self._candidates():
            source = self._make(self._settings.model_copy(update={"source": uri}))
            try:
                source.open()
            except CameraError as error:
                first_error = first_error or error
                continue
            self._source, self.name = source, source.name
            return
        raise first_error or CameraError(
            "No camera was found; plug one in, or set camera.source to rtsp://… or file:PATH."
        )

    def grab(self) -> bool:
        """Wait for the next picture."""
        return self._opened().grab()

    def retrieve(self, buffers: FrameBuffers) -> Pixels:
        """The grabbed picture."""
        return self._opened().retrieve(buffers)

    def close(self) -> None:
        """Let go of the camera."""
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def _opened(self) -> Source:
        if self._source is None:
            raise CameraError("No camera is open.")
        return self._source
