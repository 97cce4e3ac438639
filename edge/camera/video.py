"""A video file, read by OpenCV's FFmpeg from its beginning to its end."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import cv2
import numpy.typing as npt

from edge.camera.container import VideoHeader, codec_name, read_header
from edge.camera.geometry import FrameBuffers, Geometry
from edge.camera.opencv import OpenCVSource
from edge.camera.source import UnreadablePictureError
from edge.camera.timestamps import PictureTimes
from edge.errors import CameraError
from edge.frames import Pixels

logger = logging.getLogger("edge.camera")

# Damaged bytes make one grab fail for each picture that was in them; at the end of the file every grab fails.
SPARE_GRABS = 32  # beyond the pictures that the header still promises
PATIENCE_S = 0.5  # of failing grabs, 1 to 50 µs each; then the capture thread sends a beat
# A pause that is this long, and this many times the usual step, is reported as damage.
GAP_S, GAP_STEPS = 1.0, 10


class VideoSource(OpenCVSource):
    """Shows every picture that can be decoded; a part that cannot be read is skipped and reported once."""

    live = False

    def __init__(self, name: str, path: Path, geometry: Geometry, *, loop: bool) -> None:
        super().__init__(name, geometry)
        self._path = path
        self._loop = loop
        self._header = VideoHeader()
        self._scratch: list[npt.NDArray[Any] | None] = [None, None]  # for turning pictures
        self._times = PictureTimes()
        self._grabbed = 0  # since the beginning
        self._failed = 0  # grabs in a row
        self._paused = False  # the last grab gave up for now
        self._promised = 0.0  # pictures, according to the header
        self._began_s = 0.0  # the moment at which this round began
        self._damage_reported = False

    def open(self) -> None:
        """Start with the first picture."""
        self._header = read_header(self._path)
        super().open()
        capture = self._opened()
        if self._header.has_matrix:
            capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        self._grabbed = self._failed = 0
        self._promised = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._times.begin(capture.get(cv2.CAP_PROP_FPS))

    @property
    def advice(self) -> str:  # type: ignore[override]
        """Why the video cannot be read, and what to do."""
        if self._header.unfinished:
            return (
                "its index (moov) is missing, because the recording or the copy was cut off. Copy it again; MKV and"
                " MPEG-TS can be read up to such a cut"
            )
        codec = self._header.codec
        if not codec and self._capture is not None:
            codec = codec_name(
                int(self._capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True).decode("latin-1")
            )
        if codec:
            return (
                f"its pictures are {codec}, which this OpenCV may not know, or damaged. Convert it, such as with"
                " ffmpeg -i IN -c:v libx264 OUT.mp4, or copy it again"
            )
        return "it is neither a video nor a photo that OpenCV can read, so give another file"

    def grab(self) -> bool:
        """Go to the next picture; False after the last."""
        pause_at = time.monotonic() + PATIENCE_S
        self._paused = False
        while not self._opened().grab():
            self._failed += 1
            if self._failed > self._promised_left() + SPARE_GRABS:
                return self._again()
            if time.monotonic() > pause_at:
                self._paused = True
                return True
        failed, self._failed = self._failed, 0
        step_s = self._times.usual_step_s
        before_s, self.moment_s = self.moment_s, self._times.next(self._opened().get(cv2.CAP_PROP_POS_MSEC) / 1000)
        if not self._grabbed:
            self._began_s = self.moment_s
        elif failed and (self._header.has_matrix or self.moment_s - before_s > 1.5 * step_s):
            # Without a gap OpenCV 4.6 has only read over a sound that is longer, which it does not in an MP4.
            self._report(f"is damaged after {self._clock(before_s)}; what cannot be read is left out")
        elif self.moment_s - before_s > max(GAP_S, GAP_STEPS * step_s):
            gap = f"{self._clock(before_s)} to {self._clock(self.moment_s)}"
            self._report(f"has no picture from {gap}: nothing was recorded then, or it is damaged there")
        self._grabbed += 1
        return True

    def retrieve(self, buffers: FrameBuffers) -> Pixels:
        """Decode the grabbed picture."""
        if self._paused:
            raise UnreadablePictureError(f"{self.name} has a long damaged part; what cannot be read is left out.")
        return super().retrieve(buffers)

    def _promised_left(self) -> float:
        """How many pictures the header still promises; only an MP4's states more than an estimate."""
        passed_s = self.moment_s - self._began_s + 2 * self._times.usual_step_s
        if not self._header.has_matrix or 0 < self._header.duration_s <= passed_s:
            return 0
        return max(0.0, self._promised - self._grabbed)

    def _again(self) -> bool:
        if not self._grabbed:
            raise CameraError(f"{self.name} gives no picture; {self.advice}.")
        self._report_early_end()
        if not self._loop:
            return False
        self.open()  # works for every container; seeking to frame 0 does not
        return self.grab()

    def _report_early_end(self) -> None:
        """An end long before the one that the header states is damage too, unless only its sound is longer."""
        if self._header.complete:
            return
        stated_s = self._header.duration_s
        if not stated_s and not self._header.has_matrix and (fps := self._opened().get(cv2.CAP_PROP_FPS)) > 0:
            stated_s = self._promised / fps
        end_s, step_s = self.moment_s - self._began_s, self._times.usual_step_s
        if max(GAP_S, GAP_STEPS * step_s) < stated_s - step_s - end_s < math.inf:
            stated = self._clock(self._began_s + stated_s)
            self._report(f"ends at {self._clock(self.moment_s)}, although its header states {stated}")

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

    def _upright(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        header = self._header
        if header.transpose:
            image = self._scratch[0] = cv2.transpose(image, dst=self._scratch[0])
        if header.flip_horizontal or header.flip_vertical:
            code = -1 if header.flip_horizontal and header.flip_vertical else int(header.flip_horizontal)
            image = self._scratch[1] = cv2.flip(image, code, dst=self._scratch[1])
        return image

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
