"""`auto`: the first camera of this machine that can be opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from edge.camera import csi, raspberry, v4l2
from edge.camera.source import DelegatingSource, Source
from edge.errors import CameraError
from edge.settings.schema import CameraSettings

ARGUS_SOCKET = Path("/tmp/argus_socket")  # of a Jetson's camera service


def found_cameras() -> Iterator[str]:
    """The URIs of this machine's cameras: a Pi's on ribbon cables, a Jetson's, then V4L2's."""
    try:
        numbers = raspberry.cameras(raspberry.import_picamera2())
    except (CameraError, *raspberry.FAILURES):
        numbers = []
    yield from (f"picamera2:{number}" for number in numbers)
    if ARGUS_SOCKET.exists() and csi.has_gstreamer():
        yield "csi://0"
    yield from (f"v4l2:{name}" for name in v4l2.cameras())


class AutoSource(DelegatingSource):
    """The first camera that opens, looked for again at each open.

    Args:
        settings: with `source = "auto"`.
        make: makes the source of a URI.
        candidates: the URIs to try, in order; called at each open.
    """

    def __init__(
        self,
        settings: CameraSettings,
        make: Callable[[CameraSettings], Source],
        candidates: Callable[[], Iterable[str]] = found_cameras,
    ) -> None:
        super().__init__("auto")
        self._settings = settings
        self._make = make
        self._candidates = candidates

    def _open_source(self) -> Source:
        first_error: CameraError | None = None
        for uri in self._candidates():
            source = self._make(self._settings.model_copy(update={"source": uri}))
            try:
                source.open()
            except CameraError as error:
                first_error = first_error or error
                continue
            self.name = source.name
            return source
        raise first_error or CameraError(
            "No camera was found; plug one in, or set camera.source to rtsp://… or file:PATH."
        )
