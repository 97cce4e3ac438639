"""Computes the frame rate that a board may have while it is too hot or short of power.

`daemon/health.py` reads the sensors and asks for the rate; `camera/capture.py` applies it.
"""

from __future__ import annotations

import logging

from edge.board.host import Strain

logger = logging.getLogger("edge.board.throttling")

# A Pi throttles from 80 °C, and more from 85 °C; a Jetson later. Between the two limits nothing changes, so that the
# rate does not oscillate.
HOT_CELSIUS = 80.0
COOL_CELSIUS = 72.0
STEP_DOWN_EVERY_S = 10.0  # a step needs this long to lower the temperature
STEP_UP_AFTER_S = 60.0  # without strain, before each step up
STEPS = (1.0, 0.5, 0.25, 0.125)  # fractions of the rate before the first step
MIN_FPS = 0.5


class FrameRateGovernor:
    """Turns readings, one every few seconds, into a limit of the frame rate and a reason for it.

    It does no I/O and takes the time as an argument.
    """

    def __init__(self) -> None:
        self._step = 0
        self._full_fps = 0.0
        self._stepped_at = float("-inf")
        self._calm_since: float | None = None
        self._over_current_events: int | None = None
        #: The most frames a second; 0: no limit.
        self.fps_limit = 0.0
        #: One sentence that says why there is a limit; empty without one.
        self.reason = ""

    def update(self, now_s: float, strain: Strain, running_fps: float) -> None:
        """Take one reading into account.

        Args:
            now_s: monotonic seconds.
            strain: the board's power supply and temperature now.
            running_fps: frames a second that are classified now; the first step halves it.
        """
        complaint = self._complaint(strain)
        celsius = strain.temperature_celsius
        if complaint:
            self._calm_since = None
            if self._step < len(STEPS) - 1 and now_s - self._stepped_at >= STEP_DOWN_EVERY_S and running_fps > 0:
                self._go(self._step + 1, now_s, running_fps, complaint)
            elif self._step:
                self.reason = self._sentence(complaint)
        elif celsius is not None and celsius > COOL_CELSIUS:
            self._calm_since = None  # between the limits: change nothing
        elif self._step:
            self._calm_since = now_s if self._calm_since is None else self._calm_since
            if now_s - self._calm_since >= STEP_UP_AFTER_S:
                self._calm_since = now_s
                self._go(self._step - 1, now_s, running_fps, "the board is recovering")

    def _complaint(self, strain: Strain) -> str:
        before, self._over_current_events = self._over_current_events, strain.over_current_events
        if strain.under_voltage or (before is not None and strain.over_current_events > before):
            return "the power supply is too weak (under-voltage); use a stronger adapter and a short cable"
        if strain.temperature_celsius is not None and strain.temperature_celsius >= HOT_CELSIUS:
            return f"the processor is {strain.temperature_celsius:.0f} °C hot; give it air or a heat sink"
        if strain.throttled:
            return "the board has slowed its processor down to protect itself; give it air or a heat sink"
        return ""

    def _go(self, step: int, now_s: float, running_fps: float, why: str) -> None:
        if self._step == 0:
            self._full_fps = running_fps
        self._step, self._stepped_at = step, now_s
        if step == 0:
            self.fps_limit, self.reason = 0.0, ""
            logger.warning("Back to the full frame rate: the board has recovered.")
            return
        self.fps_limit = max(MIN_FPS, round(self._full_fps * STEPS[step], 2))
        self.reason = self._sentence(why)
        logger.warning("%s", self.reason)

    def _sentence(self, why: str) -> str:
        return f"At most {self.fps_limit:g} frames a second because {why}."
