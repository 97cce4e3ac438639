"""The capture thread: keeps the newest frame of a live camera, pulls a file, and opens again what fails."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from functools import partial

import cv2

from edge.backoff import Backoff
from edge.camera.errors import LostCameraError, UnreadablePictureError
from edge.camera.geometry import FrameBuffers
from edge.camera.pace import Limit, Timeline, due_s, lower_fps
from edge.camera.source import Source, make_source
from edge.errors import CameraError
from edge.frames import Frame, Pixels
from edge.repeating_fault import RepeatingFault
from edge.settings.schema import CameraSettings
from edge.status.snapshot import Status

logger = logging.getLogger("edge.camera")

STAGE = "camera"
# Opening may take longer than a read ever should: on a Pi the first import of picamera2 alone takes seconds.
OPEN_PATIENCE_S = 20.0
STEADY_S = 5.0  # a camera that delivers for this long has recovered: its back-off begins anew
REOPEN_FIRST_S, REOPEN_CAP_S = 0.5, 10.0  # the back-off between two attempts to open a camera
BEAT_S = 0.25  # at least this often while waiting
FAILURES = (CameraError, OSError, cv2.error)


class Capture:
    """Owns the thread "capture", which owns the source.

    A source that cannot be opened, ends or stalls is told, counted and opened again, with back-off; only a
    file without `loop` ends. A call into the source that does not return stops the beats of the stage
    "camera" and nothing else: the thread cannot be replaced, so whoever reads `Status.overdue` has to end
    the process.

    Args:
        settings: which source, how it is turned, how long a call may take.
        status: gets the beats of "camera", counters and gauges.
        on_camera: told when the camera starts (True) or stops (False) delivering, from the capture thread.
        make: makes the source.
        clock: seconds on a monotonic scale.
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
        self._settings = settings
        self._status = status
        self._on_camera = on_camera
        self._clock = clock
        # Half of each wait is fixed, so that a dead camera is not opened again and again without a pause.
        self._backoff = Backoff(REOPEN_FIRST_S, REOPEN_CAP_S, jitter=0.5, random_share=jitter)
        self._source = make(settings)
        self._buffers = FrameBuffers()
        self._limit = Limit()
        self._timeline: Timeline | None = None
        self._fault, self._torn = (RepeatingFault(logger, clock=clock) for _ in range(2))
        self._readable_at = self._torn_at = 0.0  # when the last readable, the last broken picture came
        self._told = ""  # of a file's broken pictures, the last that was logged
        self._online: bool | None = None
        self._online_since = 0.0
        self._shape: tuple[int, ...] = ()
        self._sequence = 0
        self._put_at = float("-inf")  # when a file's last frame was handed over
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        # Everything below is guarded by it.
        self._changed = threading.Condition()
        self._fps = settings.fps
        self._board_limit = 0.0
        self._waiting: Frame | None = None  # not taken yet
        self._taken: Pixels | None = None  # what the consumer looks at
        self._stopping = False
        self._finished = False
        self._lost = False

    def start(self) -> None:
        """Start the thread; a missing camera is no reason not to."""
        self._status.gauge(camera="waiting", camera_source=self._source.name, camera_error="")
        self._status.watch(STAGE, OPEN_PATIENCE_S)
        self._thread.start()

    def take(self, timeout_s: float) -> Frame | None:
        """The newest frame that was not taken yet, or the next of a file; None where none came in time.

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
        """False of a file, whose every frame counts and waits to be taken."""
        return self._source.live

    @property
    def ended(self) -> bool:
        """Whether a file without `loop` was read to its end and its last frame was taken."""
        with self._changed:
            return self._finished and self._waiting is None

    def set_fps(self, fps: float) -> None:
        """Limit a live camera to `fps` frames a second, or pace a file by it; 0 is no limit. Applies at once."""
        with self._changed:
            self._fps = fps
            self._changed.notify_all()

    def set_board_limit(self, fps: float) -> None:
        """What the board can bear now, beside the settings' `fps`; 0 is no limit.

        A file is shown more slowly by it, but its frames keep their times.
        """
        with self._changed:
            self._board_limit = fps
            self._changed.notify_all()

    def stop(self, timeout_s: float) -> bool:
        """End the thread and close the source.

        False: a call into the source has not returned in time, or may not be made any more; then the process has
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
                self._failed(error)
                if isinstance(error, LostCameraError):
                    self._give_up()
                    return
                self._close()
                self._pause(lambda: False, self._backoff.next_s())
                continue
            self._close()
            if ended:
                self._end()
                break
        self._status.unwatch(STAGE)

    def _give_up(self) -> None:
        """Be overdue at once: the process has to end for this camera to come back."""
        with self._changed:
            self._lost = True
        self._status.watch(STAGE, 0.0)

    def _open(self) -> None:
        if self._backoff.failures:
            self._status.count("camera_reopens")
        self._status.watch(STAGE, OPEN_PATIENCE_S)
        self._source.open()
        self._status.watch(STAGE, self._settings.stall_after_s)
        self._readable_at = self._clock()
        self._status.gauge(camera_source=self._source.name)

    def _close(self) -> None:
        self._status.watch(STAGE, self._settings.stall_after_s)
        try:
            self._source.close()
        except FAILURES as error:
            logger.debug("closing %s: %s", self._source.name, error)
        self._status.beat(STAGE)

    def _deliver(self) -> bool:
        """Deliver frames until the source ends (True) or the daemon stops (False)."""
        while not self._stopping:
            if not self._source.live and not self._pause(lambda: self._waiting is None):
                break
            self._status.beat(STAGE)
            began = self._clock()
            if not self._source.grab():
                return True
            self._status.beat(STAGE)
            grabbed = self._clock()
            if self._source.live and not self._limit.wants(grabbed, lower_fps(self._fps, self._board_limit)):
                self._readable_at = grabbed  # not known to be, but not known not to be
                continue
            try:
                pixels = self._source.retrieve(self._buffers)
            except UnreadablePictureError as error:
                self._unreadable(error)
                continue
            done = self._clock()
            self._good(done, pixels)
            if self._source.live:
                self._put(pixels, grabbed, done - grabbed)
            else:
                self._put_in_time(pixels, done - began)
        return False

    def _put_in_time(self, pixels: Pixels, capture_s: float) -> None:
        """Hand over a file's frame when its time has come."""
        self._timeline = self._timeline or Timeline(self._clock())
        moment = self._timeline.next(self._fps or self._source.fps)
        due = partial(due_s, moment, self._put_at)  # at the rates of that moment
        while (early := due(self._fps, self._board_limit) - self._clock()) > 0 and not self._stopping:
            self._pause(lambda: False, min(early, BEAT_S))
        self._put_at = self._clock()
        self._put(pixels, moment, capture_s)

    def _put(self, pixels: Pixels, captured_s: float, capture_s: float) -> None:
        with self._changed:
            if self._waiting is not None:  # only a live camera comes here
                self._buffers.give_back(self._waiting.pixels)
                self._status.count("frames_dropped")
            self._waiting = Frame(pixels, int(captured_s * 1e9), self._sequence, capture_s)
            self._sequence += 1
            self._changed.notify_all()
        self._status.count("frames_captured")

    def _pause(self, until: Callable[[], bool], at_most_s: float | None = None) -> bool:
        """Wait, with beats, until the condition holds, the time is over, or the daemon stops; whether it holds."""
        deadline = None if at_most_s is None else self._clock() + at_most_s
        with self._changed:
            while not self._stopping and not until():
                left = BEAT_S if deadline is None else min(BEAT_S, deadline - self._clock())
                if left <= 0:
                    return False
                self._status.beat(STAGE)
                self._changed.wait(left)
            return not self._stopping

    def _good(self, now: float, pixels: Pixels) -> None:
        """A picture came and can be read."""
        self._readable_at = now
        if self._torn.active and now - self._torn_at > STEADY_S:
            self._torn.over(f"{self._source.name} delivers whole pictures again.")
        if pixels.shape != self._shape:
            self._shape = pixels.shape
            self._status.gauge(camera_size=[pixels.shape[1], pixels.shape[0]])
        if not self._online:
            self._set_online(True)
            self._online_since = now
            self._status.gauge(camera="online", camera_error="")
            if not self._fault.active:
                logger.info("%s delivers pictures of %d × %d.", self._source.name, pixels.shape[1], pixels.shape[0])
        elif self._backoff.failures and now - self._online_since > STEADY_S:
            self._backoff.reset()
            self._fault.over(f"{self._source.name} delivers pictures again.")

    def _unreadable(self, error: UnreadablePictureError) -> None:
        self._status.count("frames_unreadable")
        if not self._source.live:
            if str(error) != self._told:  # one line a photo, and one a video
                logger.warning("%s", error)
            self._told = str(error)
            return
        self._torn_at = self._clock()
        self._torn.happened(str(error))
        if self._torn_at - self._readable_at > self._settings.stall_after_s:
            raise CameraError(f"{self._source.name} delivers only broken pictures; check its cable.") from error

    def _failed(self, error: Exception) -> None:
        self._status.count("camera_errors")
        self._status.gauge(camera="waiting", camera_error=str(error))
        self._fault.happened(str(error))
        self._timeline = None  # a file that is opened again begins now
        self._set_online(False)

    def _end(self) -> None:
        logger.info("%s has ended after %d frames.", self._source.name, self._sequence)
        self._status.gauge(camera="ended")
        self._set_online(False)
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def _set_online(self, online: bool) -> None:
        if online != self._online:
            self._online = online
            self._on_camera(online)
