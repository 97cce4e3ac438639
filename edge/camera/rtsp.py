"""Network cameras over RTSP, through OpenCV's FFmpeg."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable

import cv2

from edge.camera.geometry import FrameBuffers, Geometry
from edge.camera.opencv import OpenCVSource
from edge.errors import CameraError
from edge.frames import Pixels
from edge.settings.schema import CameraSettings
from edge.settings.toml_file import mask

# Sensor noise changes some pixel of every picture, even of a still scene, so a stream without any change is frozen.
FROZEN_AFTER_S = 30.0
COMPARE_EVERY_S = 1.0  # the checksum of a picture takes some milliseconds on a Pi


class RtspSource(OpenCVSource):
    """`rtsp://user:password@host/stream`; the stream's own size, shrunk to fit `size`.

    FFmpeg's time-outs are shorter than `stall_after_s`. If a camera stops sending, the read therefore fails and the
    camera is opened again; a call that never returned would force the whole process to end.

    A stream whose pictures do not change in any bit is opened again too: cameras freeze, and OpenCV up to 4.10
    (Debian's, Pi OS's) repeats the last picture endlessly after a stream has changed its resolution.
    """

    advice = "check its address, user and password, and that the camera and the network are up"

    def __init__(
        self, settings: CameraSettings, geometry: Geometry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(mask(settings.source), geometry)
        self._url = settings.source
        self._timeout_ms = int(settings.stall_after_s * 600)
        self._clock = clock
        self._checksum = 0
        self._changed_at = self._compared_at = 0.0
        self._patience_s = FROZEN_AFTER_S

    def open(self) -> None:
        """Connect to the camera."""
        super().open()
        self._changed_at = self._compared_at = self._clock()

    def retrieve(self, buffers: FrameBuffers) -> Pixels:
        """Decode the grabbed picture.

        Raises:
            CameraError: the stream is frozen.
        """
        pixels = super().retrieve(buffers)
        if (now := self._clock()) - self._compared_at >= COMPARE_EVERY_S:
            self._compared_at = now
            self._compare(now)
        return pixels

    def _compare(self, now: float) -> None:
        checksum = zlib.crc32(self._decoded.data) if self._decoded is not None else 0
        if checksum != self._checksum:
            if self._checksum:
                self._patience_s = FROZEN_AFTER_S
            self._checksum, self._changed_at = checksum, now
        elif now - self._changed_at >= self._patience_s:
            # Doubled each time, for a stream that shows a photo: after 30 s, 60 s, 2 min …
            frozen_s, self._patience_s = self._patience_s, self._patience_s * 2
            raise CameraError(
                f"{self.name} has shown the same picture for {frozen_s:.0f} s; opening it again. Restart"
                " the camera if that does not help."
            )

    def _open_capture(self) -> cv2.VideoCapture:
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, self._timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, self._timeout_ms]
        return cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, timeouts)
