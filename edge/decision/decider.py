"""Decides when predictions become an event: smoothed over time, on each lasting change and each heartbeat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge.events import UNKNOWN, Label, Probabilities, Reason, top_k
from edge.settings.schema import DecisionSettings

# Hysteresis: the current label is kept down to this fraction of the minimum confidence, so that it does not flicker to
# "unknown" and back.
LEAVE_FACTOR = 0.8


@dataclass(frozen=True, slots=True)
class Decision:
    """The content of an event."""

    reason: Reason
    label: str
    top: tuple[Label, ...]  # smoothed


class Decider:
    """Turns probabilities into decisions; one thread calls `decide`.

    The time is that of the frame, in seconds on any monotonic scale: a camera's clock, or a video's timestamps, so
    that a video gives the same events at any reading speed.

    Args:
        settings: may be replaced while running (`self.settings = …`), as SIGHUP does.
        labels: the bundle's labels, by class index.
    """

    def __init__(self, settings: DecisionSettings, labels: Sequence[str]) -> None:
        self.settings = settings
        self.begin(labels)

    def begin(self, labels: Sequence[str]) -> None:
        """Start again with these labels, without what came before; for the thread that calls `decide`."""
        self._labels = labels
        self._smoothed: Probabilities | None = None
        self._smoothed_at = 0.0
        self._label: str | None = None  # of the last change
        self._candidate: str | None = None  # the label that may become the next change
        self._candidate_since = 0.0
        self._event_at = 0.0  # of the last change or heartbeat
        self.top: tuple[Label, ...] = ()  # of the newest frame, smoothed; any thread may read it

    def decide(self, probabilities: Probabilities, time_s: float) -> Decision | None:
        """The decision about one frame's probabilities, (classes,) float32, or None if it makes no event."""
        settings = self.settings
        self.top = top = top_k(self._smooth(probabilities, time_s, settings.smoothing_s), self._labels)
        enough = settings.min_confidence * (LEAVE_FACTOR if top[0].label == self._label else 1.0)
        label = top[0].label if top[0].confidence >= enough else UNKNOWN
        reason: Reason | None = None
        if self._is_change(label, time_s, settings.hold_s):
            self._label, reason = label, "change"
        elif time_s - self._event_at >= settings.heartbeat_s:
            reason = "heartbeat"
        elif settings.every_frame:
            reason = "frame"
        if reason is None:
            return None
        if reason != "frame":
            self._event_at = time_s
        assert self._label is not None  # the first frame is a change
        return Decision(reason, self._label, top)

    def _smooth(self, probabilities: Probabilities, time_s: float, time_constant_s: float) -> Probabilities:
        """An exponential average weighted by the time since the last frame, so that the frame rate does not matter."""
        if self._smoothed is None or time_constant_s == 0:
            self._smoothed = probabilities.copy()
        else:
            weight = 1 - math.exp(-max(0.0, time_s - self._smoothed_at) / time_constant_s)
            self._smoothed += np.float32(weight) * (probabilities - self._smoothed)
        self._smoothed_at = time_s
        return self._smoothed

    def _is_change(self, label: str, time_s: float, hold_s: float) -> bool:
        """Whether `label` differs from the last change's and has done so without a break for `hold_s`."""
        if label == self._label:
            self._candidate = None
            return False
        if label != self._candidate:
            self._candidate, self._candidate_since = label, time_s
        # The first frame is a change at once.
        return self._label is None or time_s - self._candidate_since >= hold_s
