"""The last lines of the daemon's log, in memory, for the page."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from typing import Any

from edge.events import isoformat_utc
from edge.printable import escaped

KEPT_LINES = 200
MAX_CHARACTERS = 1000


class LogLines(logging.Handler):
    """A logging handler that keeps the last lines as JSON types: `number`, `time`, `level`, `text`; any thread."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[dict[str, Any]] = deque(maxlen=KEPT_LINES)
        self._numbers = itertools.count(1)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record's message, without its traceback."""
        text = escaped(record.getMessage()[:MAX_CHARACTERS])[:MAX_CHARACTERS]
        level, moment = record.levelname.lower(), isoformat_utc(record.created)
        self._lines.append({"number": next(self._numbers), "time": moment, "level": level, "text": text})

    def after(self, number: int) -> list[dict[str, Any]]:
        """The kept lines with a larger number, oldest first."""
        kept = list(self._lines)  # one step of the interpreter, so no other thread adds a line meanwhile
        return [line for line in kept if line["number"] > number]
