"""Reports in the status and the log whether a source delivers pictures; computes the wait before it is reopened."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge.backoff import Backoff
from edge.camera.source import Source, UnreadablePictureError
from edge.errors import CameraError
from edge.frames import Pixels
from edge.repeating_fault import RepeatingFault
from edge.status.snapshot import Status

logger = logging.getLogger("edge.camera")

STEADY_S = 5.0  # a source that delivers for this long has recovered, and its back-off is reset
REOPEN_FIRST_S, REOPEN_CAP_S = 0.5, 10.0  # the back-off between two attempts to open a source


class SourceHealth:
    """The state of one source; the capture thread calls a method for each thing that happens to the source.

    Args:
        source: its name is shown in the log and the status.
        status: gets the gauges `camera…` and the counters `camera_errors`, `camera_reopens` and `frames_unreadable`.
        on_camera: called when the source starts (True) or stops (False) delivering.
        stall_after_s: a live source that delivers only broken pictures for longer has failed.
        clock: monotonic seconds.
        random_share: 0..1, for the back-off.
    """

    def __init__(
        self,
        source: Source,
        status: Status,
        on_camera: Callable[[bool], None],
        *,
        stall_after_s: float,
        clock: Callable[[], float],
        random_share: Callable[[], float],
    ) -> None:
        self._source, self._status, self._on_camera = source, status, on_camera
        self._stall_after_s, self._clock = stall_after_s, clock
        # Half of each wait is fixed, so that a dead camera is not opened again and again without a pause.
        self._backoff = Backoff(REOPEN_FIRST_S, REOPEN_CAP_S, jitter=0.5, random_share=random_share)
        self._fault, self._broken_pictures = (RepeatingFault(logger, clock=clock) for _ in range(2))
        self._readable_at = self._broken_at = 0.0  # when the last readable and the last broken picture arrived
        self._last_warning = ""  # about a broken picture of a file
        self._online: bool | None = None
        self._online_since = 0.0
        self._shape: tuple[int, ...] = ()

    def starting(self) -> None:
        """The capture thread is about to start."""
        self._status.gauge(camera="waiting", camera_source=self._source.name, camera_error="")

    def opening(self) -> None:
        """The source is about to be opened."""
        if self._backoff.failures:
            self._status.count("camera_reopens")

    def opened(self) -> None:
        """The source is open."""
        self._readable_at = self._clock()
        self._status.gauge(camera_source=self._source.name)  # the name of `auto` is now that of the camera

    def skipped(self, now: float) -> None:
        """A picture arrived and was not decoded, because of the rate limit; it counts as readable."""
        self._readable_at = now

    def delivered(self, now: float, pixels: Pixels) -> None:
        """A picture was decoded."""
        self._readable_at = now
        if self._broken_pictures.active and now - self._broken_at > STEADY_S:
            self._broken_pictures.over(f"{self._source.name} delivers whole pictures again.")
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

    def unreadable(self, error: UnreadablePictureError) -> None:
        """A picture could not be decoded.

        Raises:
            CameraError: no picture of a live source could be decoded for `stall_after_s`.
        """
        self._status.count("frames_unreadable")
        if not self._source.live:
            if str(error) != self._last_warning:  # one line for each photo, and one for a video
                logger.warning("%s", error)
            self._last_warning = str(error)
            return
        self._broken_at = self._clock()
        self._broken_pictures.happened(str(error))
        if self._broken_at - self._readable_at > self._stall_after_s:
            raise CameraError(f"{self._source.name} delivers only broken pictures; check its cable.") from error

    def failed(self, error: Exception) -> float:
        """The source cannot be opened or has stopped; returns the seconds to wait before it is opened again."""
        self._status.count("camera_errors")
        self._status.gauge(camera="waiting", camera_error=str(error))
        self._fault.happened(str(error))
        self._set_online(False)
        return self._backoff.next_s()

    def ended(self, frames: int) -> None:
        """A file has ended after so many frames."""
        logger.info("%s has ended after %d frames.", self._source.name, frames)
        self._status.gauge(camera="ended")
        self._set_online(False)

    def _set_online(self, online: bool) -> None:
        if online != self._online:
            self._online = online
            self._on_camera(online)
