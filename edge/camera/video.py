"""A video file, read by OpenCV's FFmpeg from its beginning to its end."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import cv2

from edge.camera.geometry import Geometry
from edge.camera.opencv import OpenCVSource
from edge.camera.timestamps import PictureTimes
from edge.errors import CameraError

logger = logging.getLogger("edge.camera")

# Damaged bytes make one grab fail for each picture that was in them; at the end of the file every grab fails.
SPARE_GRABS = 32  # beyond the pictures that the header still promises
SPARE_S = 1.0  # of failing grabs, which take 1 to 50 µs each
# A pause that is this long, and this many times the usual step, is reported as damage.
GAP_S, GAP_STEPS = 1.0, 10


class VideoSource(OpenCVSource):
    """Shows every picture that can be decoded; a part that cannot be read is skipped and reported once."""

    live = False
    advice = "it is neither a video nor a photo that OpenCV can read, so give another file"

    def __init__(self, name: str, path: Path, geometry: Geometry, *, loop: bool) -> None:
        super().__init__(name, geometry)
        self._path = path
        self._loop = loop
        self._times = PictureTimes()
        self._grabbed = 0  # since the beginning
        self._promised = 0.0  # pictures, according to the header
        self._began_s = 0.0  # the moment at which this round began
        self._damage_reported = False

    def open(self) -> None:
        """Start with the first picture."""
        super().open()
        capture = self._opened()
        self._grabbed = 0
        self._promised = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._times.begin(capture.get(cv2.CAP_PROP_FPS))

    def grab(self) -> bool:
        """Go to the next picture; False after the last."""
        failed = self._failing_grabs()
        if failed is None:
            return self._again()
        step_s = self._times.usual_step_s
        before_s, self.moment_s = self.moment_s, self._times.next(self._opened().get(cv2.CAP_PROP_POS_MSEC) / 1000)
        if not self._grabbed:
            self._began_s = self.moment_s
        elif failed:
            self._report(f"is damaged after {self._clock(before_s)}; what cannot be read is left out")
        elif self.moment_s - before_s > max(GAP_S, GAP_STEPS * step_s):
            gap = f"{self._clock(before_s)} to {self._clock(self.moment_s)}"
            self._report(f"has no picture from {gap}; it may be damaged there")
        self._grabbed += 1
        return True

    def _failing_grabs(self) -> int | None:
        """Grab the next picture; returns how many grabs failed before it, None if none succeeds."""
        capture, failed, give_up_at = self._opened(), 0, 0.0
        while not capture.grab():
            failed += 1
            give_up_at = give_up_at or time.monotonic() + SPARE_S
            if failed > max(0.0, self._promised - self._grabbed) + SPARE_GRABS or time.monotonic() > give_up_at:
                return None
        return failed

    def _again(self) -> bool:
        if not self._grabbed:
            raise CameraError(f"The video {self._path} holds no picture; give another file.")
        if not self._loop:
            return False
        self.open()  # works for every container; seeking to frame 0 does not
        return self.grab()

    def _report(self, damage: str) -> None:
        """Log the first damage of this file."""
        if not self._damage_reported:
            logger.warning("%s %s. Further damage of it is not logged.", self.name, damage)
        self._damage_reported = True

    def _clock(self, moment_s: float) -> str:
        """A moment as a player shows it, from the beginning of this round."""
        minutes, seconds = divmod(moment_s - self._began_s, 60)
        hours, minutes = divmod(int(minutes), 60)
        return f"{hours}:{minutes:02}:{seconds:04.1f}"

    def _open_capture(self) -> cv2.VideoCapture:
        # An absolute name: FFmpeg takes what comes before a colon for a protocol.
        name = str(self._path.absolute())
        with self._path.open("rb") as file:  # its number is a name for one that is not UTF-8, which OpenCV refuses
            if not name.isprintable() or "%" in name:
                name = f"/proc/self/fd/{file.fileno()}"
            # Only FFmpeg: other readers of OpenCV take a name with digits for one of a series of photos. An OpenCV
            # without it may have GStreamer.
            has_ffmpeg = cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG)
            return cv2.VideoCapture(name, cv2.CAP_FFMPEG if has_ffmpeg else cv2.CAP_ANY)
