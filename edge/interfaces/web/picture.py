"""The newest frame as JPEG: one at a time, or as a stream of a few a second."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator

import anyio.to_thread

from edge.interfaces.web.problems import ProblemError
from edge.interfaces.web.view import View
from edge.photos.decode import encode_photo

MAX_SIDE = 1280
STREAM_SIDE = 640
FRESH_S = 0.2  # clients that ask within it share one encoding
WAIT_S = 1.5
STREAM_EVERY_S = 0.125
MAX_STREAMS = 4
BOUNDARY = b"frame"


class Camera:
    """Encodes the newest frame, once for everybody who asks at the same time; any thread.

    Args:
        view: whose frames.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._lock = threading.Lock()
        self._encoded: dict[int, tuple[int, bytes]] = {}  # longest side → (sequence, JPEG)
        self._streams = 0

    def jpeg(self, side: int = MAX_SIDE) -> bytes | None:
        """The newest frame with no side longer than `side`; None while the camera delivers nothing. Blocks."""
        if self._view.status().gauges.get("camera") == "waiting":
            return None  # an old picture would look like a new one
        frame = self._view.recent.frame(FRESH_S, WAIT_S)
        if frame is None:
            return None
        with self._lock:
            sequence, content = self._encoded.get(side, (-1, b""))
            if sequence != frame.sequence:
                content = encode_photo(frame.pixels, side)
                self._encoded[side] = (frame.sequence, content)
            return content

    async def stream(self, stopping: threading.Event) -> AsyncGenerator[bytes, None]:
        """Parts of multipart/x-mixed-replace until the client goes, the camera stops or the daemon does.

        Raises:
            ProblemError: `MAX_STREAMS` clients watch already; raised before the first part.
        """
        if self._streams >= MAX_STREAMS:
            raise ProblemError(429, f"{MAX_STREAMS} clients watch already; use /snapshot.jpg.", {"Retry-After": "10"})
        self._streams += 1
        try:
            while not stopping.is_set():
                content = await anyio.to_thread.run_sync(self.jpeg, STREAM_SIDE)
                if content is None:
                    return
                yield b"--%b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (
                    BOUNDARY,
                    len(content),
                    content,
                )
                await anyio.sleep(STREAM_EVERY_S)
        finally:
            self._streams -= 1
