"""Limits the log of a repeating fault to one line when it begins, one a minute, and one when it ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

REMIND_AFTER_S = 60.0
MAX_REASONS = 5  # different sentences that are logged at once; more would come from one with a changing number


class RepeatingFault:
    """One kind of fault of one stage; every method may be called from any thread.

    All its lines have one level, so that a filter by level shows both the start and the end of a fault, or neither.

    Args:
        logger: where the lines go.
        level: the level of every line.
        clock: monotonic seconds.
    """

    def __init__(
        self, logger: logging.Logger, level: int = logging.WARNING, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._level = level
        self._clock = clock
        # Reentrant, because logging can run a finalizer that logs the same fault.
        self._lock = threading.RLock()
        self._count = 0
        self._began = self._logged_at = self._happened_at = 0.0
        self._unlogged = 0  # how often it happened since the last line
        self._seen: set[str] = set()

    @property
    def active(self) -> bool:
        """Whether the fault has happened and not ended."""
        return self._count > 0

    def happened(self, sentence: str, error: BaseException | None = None) -> None:
        """Log that the fault happened (again); `sentence` says what happened and what to do.

        Args:
            sentence: what happened and what to do.
            error: its traceback is logged with a sentence that is new.
        """
        with self._lock:
            now = self._happened_at = self._clock()
            self._count += 1
            if self._count == 1:
                self._began, self._seen = now, set()
            # A new reason is logged at once; reasons that alternate are not.
            elif now - self._logged_at < REMIND_AFTER_S and (sentence in self._seen or len(self._seen) >= MAX_REASONS):
                self._unlogged += 1
                return
            self._logged_at, self._unlogged = now, 0
            error = None if sentence in self._seen else error
            self._seen.add(sentence)
            line = sentence if self._count == 1 else f"{sentence} ({self._count} times in {now - self._began:.0f} s)"
            self._logger.log(self._level, "%s", line, exc_info=error)

    def over(self, sentence: str) -> bool:
        """Log that the fault has ended, with its duration and count; returns False if there was none."""
        with self._lock:
            if not self._count:
                return False
            times = "once" if self._count == 1 else f"{self._count} times"
            lasted = self._clock() - self._began
            self._count = self._unlogged = 0
            self._logger.log(self._level, "%s (after %.0f s; failed %s)", sentence, lasted, times)
            return True

    def settle(self, sentence: str, quiet_s: float = REMIND_AFTER_S) -> None:
        """End a fault that reports no end, once it has not happened for `quiet_s`; to be called every few seconds.

        It is logged only if repeats were not, with how often the fault happened.
        """
        with self._lock:
            if not self._count or self._clock() - self._happened_at < quiet_s:
                return
            if self._unlogged:
                lasted = self._happened_at - self._began
                self._logger.log(self._level, "%s (%d times in %.0f s)", sentence, self._count, lasted)
            self._count = self._unlogged = 0
