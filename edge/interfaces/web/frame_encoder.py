"""The camera's newest frame as JPEG: a single picture for `/snapshot.jpg`, a few a second for `/stream.mjpg`."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator

import anyio.to_thread

from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.problem_details import ProblemError
from edge.photos.decode import encode_photo

MAX_SIDE = 1280
STREAM_SIDE = 640
FRESH_S = 0.2  # requests within this time share one encoding
WAIT_S = 1.5
STREAM_EVERY_S = 0.125
MAX_STREAMS = 4
BOUNDARY = b"frame"


class FrameEncoder:
    """Encodes each frame at most once for each size, for all clients together; any thread.

    Args:
        daemon: source of the frames.
    """

    def __init__(self, daemon: DaemonAccess) -> None:
        self._daemon = daemon
        self._lock = threading.Lock()
        self._encoded: dict[int, tuple[int, bytes]] = {}  # longest side → (sequence, JPEG)
        self._streams = 0

    def jpeg(self, side: int = MAX_SIDE) -> bytes | None:
        """The newest frame with no side longer than `side`; None while the camera delivers none. Blocks."""
        if self._daemon.status().gauges.get("camera") == "waiting":
            return None  # an old picture would pass for a current one
        frame = self._daemon.recent.frame(FRESH_S, WAIT_S)
        if frame is None:
            return None
        with self._lock:
            sequence, content = self._encoded.get(side, (-1, b""))
            if sequence != frame.sequence:
                content = encode_photo(frame.pixels, side)
                self._encoded[side] = (frame.sequence, content)
            return content

    async def stream(self, stopping: threading.Event) -> AsyncGenerator[bytes, None]:
        """Parts of multipart/x-mixed-replace until the client leaves, the camera fails or the daemon stops.

        Raises:
            ProblemError: there are `MAX_STREAMS` clients already; raised before the first part.
        """
        if self._streams >= MAX_STREAMS:
            raise ProblemError(429, f"{MAX_STREAMS} clients watch already; use /snapshot.jpg.", {"Retry-After": "10"})
        self._streams += 1
        try:
            while not stopping.is_set():
                content = await anyio.to_thread.run_sync(self.jpeg, STREAM_SIDE)
                if content is None:
                    return
                head = b"--%b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (BOUNDARY, len(content))
                yield head + content + b"\r\n"
                await anyio.sleep(STREAM_EVERY_S)
        finally:
            self._streams -= 1
