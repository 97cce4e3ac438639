"""Computes the highest frame rate of a board that is too hot or short of power.

`daemon/health.py` reads the sensors and calls this; `camera/capture.py` applies the rate.
"""

from __future__ import annotations

import logging

from edge.board.host import Strain

logger = logging.getLogger("edge.board.throttling")

# A Pi throttles from 80 °C, and more from 85 °C; a Jetson at a higher temperature. Between these two limits nothing
# changes, so that the rate does not oscillate.
HOT_CELSIUS = 80.0
COOL_CELSIUS = 72.0
STEP_DOWN_EVERY_S = 10.0  # the time that a step needs to lower the temperature
STEP_UP_AFTER_S = 60.0  # without strain, before each step up
STEPS = (1.0, 0.5, 0.25, 0.125)  # fractions of the rate before the first step
MIN_FPS = 0.5


class FrameRateGovernor:
    """Turns readings, one every few seconds, into a limit of the frame rate and a reason for it.

    It reads neither sensors nor a clock: both are arguments.
    """

    def __init__(self) -> None:
        self._step = 0
        self._full_fps = 0.0
        self._stepped_at = float("-inf")
        self._calm_since: float | None = None
        self._over_current_events: int | None = None
        self._problem = ""  # why there is a limit, as the end of a sentence
        #: The most frames a second; 0: no limit.
        self.fps_limit = 0.0

    @property
    def reason(self) -> str:
        """One sentence with the limit and the reason for it; "" without a limit."""
        return f"At most {self.fps_limit:g} frames a second because {self._problem}." if self._step else ""

    def update(self, now_s: float, strain: Strain, running_fps: float) -> None:
        """Take one reading into account.

        Args:
            now_s: monotonic seconds.
            strain: the board's power supply and temperature now.
            running_fps: frames a second that are classified now; the first step halves it.
        """
        problem = self._find_problem(strain)
        celsius = strain.temperature_celsius
        if problem:
            self._calm_since, self._problem = None, problem
            if self._step < len(STEPS) - 1 and now_s - self._stepped_at >= STEP_DOWN_EVERY_S and running_fps > 0:
                self._go(self._step + 1, now_s, running_fps)
        elif celsius is not None and celsius > COOL_CELSIUS:
            self._calm_since = None  # between the limits: change nothing
        elif self._step:
            self._calm_since = now_s if self._calm_since is None else self._calm_since
            if now_s - self._calm_since >= STEP_UP_AFTER_S:
                self._calm_since, self._problem = now_s, "the board is recovering"
                self._go(self._step - 1, now_s, running_fps)

    def _find_problem(self, strain: Strain) -> str:
        before, self._over_current_events = self._over_current_events, strain.over_current_events
        if strain.under_voltage or (before is not None and strain.over_current_events > before):
            return "the power supply is too weak (under-voltage); use a stronger adapter and a short cable"
        if strain.temperature_celsius is not None and strain.temperature_celsius >= HOT_CELSIUS:
            return f"the processor is {strain.temperature_celsius:.0f} °C hot; give it air or a heat sink"
        if strain.throttled:
            return "the board has slowed its processor down to protect itself; give it air or a heat sink"
        return ""

    def _go(self, step: int, now_s: float, running_fps: float) -> None:
        if self._step == 0:
            self._full_fps = running_fps
        self._step, self._stepped_at = step, now_s
        self.fps_limit = max(MIN_FPS, round(self._full_fps * STEPS[step], 2)) if step else 0.0
        logger.warning("%s", self.reason or "Back to the full frame rate: the board has recovered.")
