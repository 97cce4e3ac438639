"""The newest frame and the last events, in memory, for the page and for requests."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from edge.events import Event
from edge.frames import Frame

KEPT_EVENTS = 2048
KEPT_STATES = 1024  # changes and heartbeats: an hour at one each 3.5 s
COUNTED_LABELS = 200  # counted one by one; a model may have thousands, and each is a series of the metrics
OTHER_LABELS = "(other)"
INTEREST_S = 30.0  # after a request for a frame, the following frames are copied for this long


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event with its number in this run; `Recent.after(number)` returns those that follow it."""

    number: int
    event: Event


class Recent:
    """The newest classified frame, copied only while it is requested, and the newest events; usable from any thread.

    Args:
        clock: seconds on a monotonic scale.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._wanted_until = float("-inf")
        self._frame: Frame | None = None
        self._frame_at = float("-inf")
        self._events: deque[Numbered] = deque(maxlen=KEPT_EVENTS)
        self._states: deque[Event] = deque(maxlen=KEPT_STATES)
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._labels: set[str] = set()
        self._next = 1

    def offer(self, frame: Frame) -> Callable[[], None]:
        """Copy a frame from the camera, if frames were requested lately.

        Returns:
            Makes the copy the newest frame. To be called when the frame is classified, so that a picture is never shown
            beside the labels of the frame before it.
        """
        if self._clock() > self._wanted_until:  # read without the lock: at worst one frame is missed
            return lambda: None
        copied = Frame(frame.pixels.copy(), frame.captured_ns, frame.sequence, frame.capture_s)
        return partial(self._show, copied)

    def _show(self, frame: Frame) -> None:
        with self._changed:
            self._frame, self._frame_at = frame, self._clock()
            self._changed.notify_all()

    def frame(self, max_age_s: float, timeout_s: float) -> Frame | None:
        """The newest frame, waiting for one that is at most `max_age_s` old.

        Returns:
            The frame; if none came in time, an older one of a slow camera, at most `INTEREST_S` old; else None.
        """
        with self._changed:
            self._wanted_until = self._clock() + INTEREST_S
            self._changed.wait_for(lambda: self._clock() - self._frame_at <= max_age_s, timeout_s)
            return self._frame if self._clock() - self._frame_at <= INTEREST_S else None

    def add(self, event: Event) -> None:
        """Remember an event."""
        with self._changed:
            self._events.append(Numbered(self._next, event))
            self._next += 1
            if len(self._labels) < COUNTED_LABELS:
                self._labels.add(event.label)
            self._counts[event.label if event.label in self._labels else OTHER_LABELS, event.reason] += 1
            if event.reason in ("change", "heartbeat"):
                self._states.append(event)

    def after(self, number: int) -> list[Numbered]:
        """The events that are still kept and have a larger number, oldest first."""
        with self._changed:
            if not self._events or self._events[-1].number <= number:
                return []
            return [numbered for numbered in self._events if numbered.number > number]

    def counts(self) -> dict[tuple[str, ...], int]:
        """(label, reason) → the events of this run.

        After the first `COUNTED_LABELS` different labels, further ones are counted together. The most
        frequent ones are not chosen instead, because a counter that vanishes or shrinks would look like a restart.
        """
        with self._changed:
            return dict(self._counts)

    def latest(self) -> Event | None:
        """The newest event."""
        with self._changed:
            return self._events[-1].event if self._events else None

    def states(self) -> list[Event]:
        """The changes and heartbeats that are still kept, oldest first."""
        with self._changed:
            return list(self._states)
