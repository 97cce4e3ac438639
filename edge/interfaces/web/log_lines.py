"""The last lines of the daemon's log, in memory, for the page."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass

from edge.events import isoformat_utc

KEPT_LINES = 200
MAX_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log, as the page gets it."""

    number: int
    time: str
    level: str
    text: str


class LogLines(logging.Handler):
    """A logging handler that keeps the last lines; any thread, under logging's own lock."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[Line] = deque(maxlen=KEPT_LINES)
        self._next = 1

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record's message, without its traceback."""
        text = record.getMessage()[:MAX_CHARACTERS]
        self._lines.append(Line(self._next, isoformat_utc(record.created), record.levelname.lower(), text))
        self._next += 1

    def after(self, number: int) -> list[Line]:
        """The kept lines with a larger number, oldest first."""
        if self._next - 1 <= number:
            return []
        self.acquire()
        try:
            return [line for line in self._lines if line.number > number]
        finally:
            self.release()
