"""When frames are due: a live camera's under a frame-rate limit, and a file's by their index."""

from __future__ import annotations


class Limit:
    """Which pictures of a live camera are wanted under a frame-rate limit."""

    def __init__(self) -> None:
        self._due = 0.0

    def wants(self, now: float, fps: float) -> bool:
        """Whether the picture that came `now` (seconds) is wanted; `fps` 0 wants all.

        The limit is kept on average: a camera's pictures come a little early or late, and one that is less
        than a quarter of a period early is taken for its turn, else 30 fps under a limit of 10 became 7.5.
        """
        if not fps:
            return True
        period = 1 / fps
        early = self._due - now
        if period / 4 < early <= period * 5 / 4:
            return False
        # After a pause there is nothing to make up for, and a due time further off is from a lower limit.
        on_time = -period <= early <= period / 4
        self._due = (self._due if on_time else now) + period
        return True


class Timeline:
    """The times of a file's frames: start + index / fps, also when fps changes on the way.

    Args:
        start_s: the first frame's time.
    """

    def __init__(self, start_s: float) -> None:
        self._start_s = self._last_s = start_s
        self._index = 0
        self._fps = 0.0

    def next(self, fps: float) -> float:
        """The time of the next frame in seconds; one multiplication, so that nothing adds up over days."""
        if self._fps and fps != self._fps:
            self._start_s, self._index = self._last_s, 1
        self._fps = fps
        self._last_s = self._start_s + self._index / fps
        self._index += 1
        return self._last_s


def due_s(moment_s: float, before_s: float, fps: float, board_limit: float) -> float:
    """When a file's frame is shown whose time is `moment_s`, after one at `before_s`; rates of 0 are no limit."""
    due = float("-inf")
    if fps:
        due = min(moment_s, before_s + 1 / fps)  # the second is sooner where the rate was raised meanwhile
    if board_limit:
        due = max(due, before_s + 1 / board_limit)
    return due


def lower_fps(*limits: float) -> float:
    """The lowest of some rates, of which 0 is no limit."""
    return min((fps for fps in limits if fps), default=0.0)
