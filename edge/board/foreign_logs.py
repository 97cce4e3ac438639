"""What libraries log, such as uvicorn and asyncio, as lines of the daemon's own log that count repeats.

Much of it is caused by strangers: each malformed request makes uvicorn log a line. A library's first five different
messages are logged, then one line a minute, and one with the count when it is quiet again.
"""

from __future__ import annotations

import logging

from edge.repeating_fault import RepeatingFault

OURS = "edge.libraries"
MAX_CHARACTERS = 300  # of a message; strangers choose parts of some


class ForeignLogs(logging.Handler):
    """The root logger's handler, for warnings and errors of every logger that is not ours; any thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._faults: dict[tuple[str, int], RepeatingFault] = {}  # by library and level

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record's first line, with its traceback when the line is new."""
        try:
            library = record.name.partition(".")[0]
            level = logging.ERROR if record.levelno >= logging.ERROR else logging.WARNING
            fault = self._faults.setdefault((library, level), RepeatingFault(logging.getLogger(OURS), level))
            fault.happened(f"{library}: {_first_line(record)}", record.exc_info[1] if record.exc_info else None)
        except Exception:  # noqa: BLE001 - what every handler does: a line that cannot be logged must not raise
            self.handleError(record)

    def settle(self) -> None:
        """Log how often messages were repeated that have stopped; to be called every few seconds."""
        for (library, _), fault in [*self._faults.items()]:
            fault.settle(f"{library}: these messages have stopped")


def take_over() -> None:
    """Log through one `ForeignLogs` what libraries log from now on."""
    root = logging.getLogger()
    root.handlers[:] = [*(one for one in root.handlers if not isinstance(one, ForeignLogs)), ForeignLogs()]


def settle() -> None:
    """`ForeignLogs.settle` of the handler in use."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, ForeignLogs):
            handler.settle()


def _first_line(record: logging.LogRecord) -> str:
    lines = record.getMessage().strip().splitlines() or [""]
    error = record.exc_info[1] if record.exc_info else None
    text = lines[0] if error is None else f"{lines[0]}: {type(error).__name__}: {error}"
    # Without control characters, with which a stranger could write lines of his own or command a terminal.
    return "".join(character if character.isprintable() else " " for character in text)[:MAX_CHARACTERS]
