"""Which cameras this machine seems to have, for `auto`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge.camera import csi, raspberry, v4l2
from edge.errors import CameraError

ARGUS_SOCKET = Path("/tmp/argus_socket")


def found_cameras() -> Iterator[str]:
    """Their URIs: a Pi's cameras, then a Jetson's, then V4L2's."""
    try:
        numbers = raspberry.cameras(raspberry.import_picamera2())
    except (CameraError, *raspberry.FAILURES):
        numbers = []
    yield from (f"picamera2:{number}" for number in numbers)
    if ARGUS_SOCKET.exists() and csi.has_gstreamer():
        yield "csi://0"
    yield from (f"v4l2:{name}" for name in v4l2.cameras())
