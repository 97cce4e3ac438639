"""The moments of a video's pictures, from timestamps that may be missing, equal, or jump."""

from __future__ import annotations

import math
from collections import deque
from statistics import median

LIKELY_FPS = (0.01, 240.0)  # WebM headers claim 1000, MPEG-TS and raw streams 90000 or 1200000: a unit of time, no rate
DEFAULT_STEP_S = 1 / 25  # of a video without timestamps and without a likely rate; FFmpeg assumes the same
LATER_S = 0.001  # between pictures whose timestamps are equal or slightly out of order
EQUAL_AT_MOST = 5  # timestamps that stay equal for longer are not the pictures' own
REORDERED_AT_MOST = 5  # pictures; OpenCV 4.6 gives the timestamp of the packet, and a codec may reorder packets
FORWARD_AT_MOST_S = 86_400.0
STEPS = 9  # from which the usual step is computed


class PictureTimes:
    """Turns the timestamps of one video's pictures into moments that always increase.

    A moment is the timestamp's distance from the first one, whatever that is. A picture without a timestamp comes a
    usual step after the one before it. After a jump, backwards or by more than a day, the moments go on from the last
    one by a usual step, as they do where a video begins again.
    """

    def __init__(self) -> None:
        self._moment_s: float | None = None  # of the last picture; None before the first
        self._steps: deque[float] = deque(maxlen=STEPS)
        self._claimed_step_s = DEFAULT_STEP_S
        self._stamp_s: float | None = None  # the last known timestamp since the beginning of the video
        self._equal = 0  # pictures in a row with this timestamp
        self._offset_s = 0.0  # moment − timestamp

    def begin(self, claimed_fps: float) -> None:
        """The video begins, for the first time or again.

        Args:
            claimed_fps: the frame rate in its header, which may be any number.
        """
        low, high = LIKELY_FPS
        self._claimed_step_s = 1 / claimed_fps if low <= claimed_fps <= high else DEFAULT_STEP_S
        self._stamp_s = None

    @property
    def usual_step_s(self) -> float:
        """The seconds between two pictures: the median of the last ones, or what the header claims."""
        return median(self._steps) if self._steps else self._claimed_step_s

    def next(self, stamp_s: float) -> float:
        """The moment of the next picture in seconds; that of the very first picture is 0.

        Args:
            stamp_s: its timestamp in seconds; 0, as OpenCV gives it, or NaN if it has none.
        """
        last_s, before_s = self._moment_s, self._stamp_s
        known = math.isfinite(stamp_s) and (stamp_s != 0 or before_s is None)
        self._equal = self._equal + 1 if stamp_s == before_s else 0
        if last_s is None:
            moment_s = 0.0
        elif before_s is None or not known or self._equal > EQUAL_AT_MOST:
            moment_s = last_s + self.usual_step_s
        else:
            moment_s = stamp_s + self._offset_s
            if not -REORDERED_AT_MOST * self.usual_step_s <= moment_s - last_s <= FORWARD_AT_MOST_S:
                moment_s = last_s + self.usual_step_s
                before_s = None  # the moments go on from here
            elif stamp_s > before_s:
                self._steps.append(stamp_s - before_s)
            moment_s = max(moment_s, last_s + LATER_S)
        if known:
            if before_s is None:
                self._offset_s = moment_s - stamp_s
            self._stamp_s = stamp_s
        self._moment_s = moment_s
        return moment_s
