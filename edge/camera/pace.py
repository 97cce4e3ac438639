"""When frames are due: a live camera's under a limit of the frame rate, and a file's by their timestamps."""

from __future__ import annotations


class RateLimiter:
    """Decides which pictures of a live camera are used under a limit of the frame rate."""

    def __init__(self) -> None:
        self._due = 0.0

    def admits(self, now: float, *limits: float) -> bool:
        """Whether the picture that came at `now` (seconds) is used under limits in frames a second; 0 is no limit.

        The lowest limit is kept on average. A camera's pictures come a little early or late, so one that is less than a
        quarter of a period early counts as on time. Otherwise 30 fps under a limit of 10 would become 7.5.
        """
        if not any(limits):
            return True
        period = 1 / min(filter(None, limits))
        early = self._due - now
        if period / 4 < early <= period * 5 / 4:
            return False
        # A due time far in the past is from before a pause, one far in the future from a lower limit: start again.
        on_time = -period <= early <= period / 4
        self._due = (self._due if on_time else now) + period
        return True


class Timeline:
    """The times of a file's frames on the clock, continued without a jump when fps changes.

    Args:
        start_s: the first frame's time.
    """

    def __init__(self, start_s: float) -> None:
        self._start_s = self._last_s = start_s
        self._moment_s = self._first_moment_s = 0.0
        self._index = 0
        self._fps: float | None = None

    def next(self, moment_s: float, fps: float) -> float:
        """The time of the next frame in seconds, computed from the first one so that no error adds up over days.

        Args:
            moment_s: the frame's own moment, by the file's timestamps.
            fps: the settings' rate, at which the frames follow each other instead; 0: at their own moments.
        """
        if fps != self._fps:
            if self._fps is not None:
                self._start_s = self._last_s + (1 / fps if fps else moment_s - self._moment_s)
            self._fps, self._index, self._first_moment_s = fps, 0, moment_s
        self._last_s = self._start_s + (self._index / fps if fps else moment_s - self._first_moment_s)
        self._index += 1
        self._moment_s = moment_s
        return self._last_s


def due_s(moment_s: float, previous_s: float, fps: float, board_limit: float) -> float:
    """When a file's frame is shown.

    Args:
        moment_s: the frame's own time.
        previous_s: when the previous frame was shown.
        fps: the settings' rate; 0 is no limit.
        board_limit: the rate that the board can bear; 0 is no limit.
    """
    due = float("-inf")
    if fps:
        due = min(moment_s, previous_s + 1 / fps)  # the second is sooner if the rate was raised meanwhile
    if board_limit:
        due = max(due, previous_s + 1 / board_limit)
    return due
