"""The capture thread: hands the newest frame of a live camera, or each frame of a file, to the thread that infers."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

import cv2

from edge.camera.geometry import FrameBuffers
from edge.camera.pace import RateLimiter, Timeline, due_s
from edge.camera.source import LostCameraError, Source, UnreadablePictureError, make_source
from edge.camera.source_health import SourceHealth
from edge.errors import CameraError
from edge.frames import Frame, Pixels
from edge.settings.schema import CameraSettings
from edge.status.snapshot import Status

logger = logging.getLogger("edge.camera")

STAGE = "camera"
# Opening takes longer than a read: on a Pi the first import of picamera2 alone takes seconds.
OPEN_PATIENCE_S = 20.0
BEAT_S = 0.25  # at least this often while waiting
FAILURES = (CameraError, OSError, cv2.error)


class Capture:
    """Owns the thread "capture", which owns the source.

    A source that cannot be opened, ends or stalls is opened again, with back-off; only a file without `loop` ends. If
    a call into the source does not return, the beats of the stage "camera" stop. The thread cannot be replaced then:
    the process has to end, which the reader of `Status.overdue` sees to.

    Args:
        settings: which source, how it is turned, how long a call may take.
        status: gets the beats of "camera", counters and gauges.
        on_camera: called from the capture thread when the camera starts (True) or stops (False) delivering.
        make: makes the source.
        clock: monotonic seconds.
        jitter: 0..1, spreads the back-off of many boxes that lost the same network.
    """

    def __init__(
        self,
        settings: CameraSettings,
        status: Status,
        *,
        on_camera: Callable[[bool], None] = lambda online: None,
        make: Callable[[CameraSettings], Source] = make_source,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._stall_after_s = settings.stall_after_s
        self._status = status
        self._clock = clock
        self._source = make(settings)
        self._health = SourceHealth(
            self._source, status, on_camera, stall_after_s=settings.stall_after_s, clock=clock, random_share=jitter
        )
        self._buffers = FrameBuffers()
        self._limiter = RateLimiter()
        self._timeline: Timeline | None = None
        self._sequence = 0
        self._put_at = float("-inf")  # when a file's last frame was handed over
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        # Guards everything below.
        self._changed = threading.Condition()
        self._fps = settings.fps
        self._board_limit = 0.0
        self._waiting: Frame | None = None  # not taken yet
        self._taken: Pixels | None = None  # in use by the consumer
        self._stopping = False
        self._finished = False
        self._lost = False

    def start(self) -> None:
        """Start the thread. A missing camera is not an error: the thread tries again until there is one."""
        self._health.starting()
        self._status.watch(STAGE, OPEN_PATIENCE_S)
        self._thread.start()

    def take(self, timeout_s: float) -> Frame | None:
        """The newest frame that was not taken yet, or the next of a file; None if there is none in time.

        The pixels of the frame taken before may be overwritten from now on.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._finished or self._stopping, timeout_s)
            frame, self._waiting = self._waiting, None
            if frame is not None:
                if self._taken is not None:
                    self._buffers.give_back(self._taken)
                self._taken = frame.pixels
                self._changed.notify_all()
            return frame

    @property
    def live(self) -> bool:
        """False for a file, of which no frame is dropped: each one waits until it is taken."""
        return self._source.live

    @property
    def ended(self) -> bool:
        """Whether a file without `loop` was read to its end and its last frame was taken."""
        with self._changed:
            return self._finished and self._waiting is None

    def set_fps(self, fps: float) -> None:
        """Limit a live camera to `fps` frames a second, or set the rate of a file; 0 is no limit. Applies at once."""
        with self._changed:
            self._fps = fps
            self._changed.notify_all()

    def set_board_limit(self, fps: float) -> None:
        """Limit the rate to what the board can bear now, in addition to the settings' `fps`; 0 is no limit.

        A file is shown more slowly, but its frames keep their times.
        """
        with self._changed:
            self._board_limit = fps
            self._changed.notify_all()

    def stop(self, timeout_s: float) -> bool:
        """End the thread and close the source.

        Returns:
            False if a call into the source has not returned in time or may not be made any more. The process then has
            to end with `os._exit`, since libraries clean up at a normal exit and block there too.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive() and not self._lost

    # From here on everything runs in the capture thread.

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._open()
                ended = self._deliver()
            except FAILURES as error:
                wait_s = self._health.failed(error)
                if isinstance(error, LostCameraError):
                    with self._changed:
                        self._lost = True
                    self._status.watch(STAGE, 0.0)  # overdue at once: only a new process can use this camera again
                    return
                self._close_for(wait_s)
                continue
            self._close()
            if ended:
                self._end()
                break
        self._status.unwatch(STAGE)

    def _open(self) -> None:
        self._health.opening()
        self._status.watch(STAGE, OPEN_PATIENCE_S)
        self._source.open()
        self._status.watch(STAGE, self._stall_after_s)
        self._health.opened()

    def _close(self) -> None:
        self._status.watch(STAGE, self._stall_after_s)
        try:
            self._source.close()
        except FAILURES as error:
            logger.debug("closing %s: %s", self._source.name, error)
        self._status.beat(STAGE)

    def _close_for(self, seconds: float) -> None:
        self._timeline = None  # the times of a file that is opened again begin then
        self._close()
        reopen_at = self._clock() + seconds
        self._wait(lambda: reopen_at - self._clock())

    def _end(self) -> None:
        self._health.ended(self._sequence)
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def _deliver(self) -> bool:
        """Deliver frames until the source ends (True) or the daemon stops (False)."""
        while not self._stopping:
            if not self._source.live and not self._wait(lambda: 0.0 if self._waiting is None else BEAT_S):
                break
            self._status.beat(STAGE)
            began = self._clock()
            if not self._source.grab():
                return True
            self._status.beat(STAGE)
            grabbed = self._clock()
            if self._source.live and not self._limiter.admits(grabbed, self._fps, self._board_limit):
                self._health.skipped(grabbed)
                continue
            try:
                pixels = self._source.retrieve(self._buffers)
            except UnreadablePictureError as error:
                self._health.unreadable(error)
                continue
            done = self._clock()
            self._health.delivered(done, pixels)
            if self._source.live:
                self._put(pixels, grabbed, done - grabbed)
            else:
                self._put_when_due(pixels, done - began)
        return False

    def _put_when_due(self, pixels: Pixels, capture_s: float) -> None:
        self._timeline = self._timeline or Timeline(self._clock())
        moment = self._timeline.next(self._source.moment_s, self._fps)
        # The rates may change during the wait.
        self._wait(lambda: due_s(moment, self._put_at, self._fps, self._board_limit) - self._clock())
        self._put_at = self._clock()
        self._put(pixels, moment, capture_s)

    def _put(self, pixels: Pixels, captured_s: float, capture_s: float) -> None:
        with self._changed:
            if self._waiting is not None:  # of a live camera: a file waits until its frame is taken
                self._buffers.give_back(self._waiting.pixels)
                self._status.count("frames_dropped")
            self._waiting = Frame(pixels, int(captured_s * 1e9), self._sequence, capture_s)
            self._sequence += 1
            self._changed.notify_all()
        self._status.count("frames_captured")

    def _wait(self, left_s: Callable[[], float]) -> bool:
        """Wait, with beats, until `left_s()` seconds are none or less; False if the daemon stops."""
        with self._changed:
            while not self._stopping and (left := left_s()) > 0:
                self._status.beat(STAGE)
                self._changed.wait(min(left, BEAT_S))
            return not self._stopping
