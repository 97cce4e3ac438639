"""What libraries log, such as uvicorn and asyncio, as lines of the daemon's own log that count repeats.

Much of it is caused by strangers: each malformed request makes uvicorn log a line. A library's first five different
messages are logged, then one line a minute, and one with the count when it is quiet again. Python's own warnings, and
exceptions that end a thread or that Python cannot raise, follow the same way instead of going to standard error.
"""

from __future__ import annotations

import logging
import sys
import threading

from edge.printable import shortened
from edge.repeating_fault import RepeatingFault

OURS = "edge.libraries"
_PYTHON = logging.getLogger("python")
MAX_CHARACTERS = 300  # of a message; strangers choose parts of some


class ForeignLogs(logging.Handler):
    """The root logger's handler, for warnings and errors of every logger that is not ours; any thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._faults: dict[tuple[str, int], RepeatingFault] = {}  # by library and level

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record's first line, with its traceback when the line is new."""
        try:
            library = "python" if record.name == "py.warnings" else record.name.partition(".")[0]
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
    """Log through one `ForeignLogs` what libraries log, and what Python reports, from now on."""
    root = logging.getLogger()
    root.handlers[:] = [*(one for one in root.handlers if not isinstance(one, ForeignLogs)), ForeignLogs()]
    logging.captureWarnings(True)
    threading.excepthook = _thread_ended
    sys.unraisablehook = _not_raised


def settle() -> None:
    """`ForeignLogs.settle` of the handler in use."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, ForeignLogs):
            handler.settle()


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_type is not SystemExit and ended.exc_value is not None:
        name = ended.thread.name if ended.thread is not None else "?"
        _PYTHON.error("The thread %s has ended with an exception", name, exc_info=ended.exc_value)


def _not_raised(ignored: sys.UnraisableHookArgs) -> None:
    what = ignored.err_msg or "Exception ignored in"
    _PYTHON.error("%s %.100r", what, ignored.object, exc_info=ignored.exc_value)


def _first_line(record: logging.LogRecord) -> str:
    lines = record.getMessage().strip().splitlines() or [""]
    error = record.exc_info[1] if record.exc_info else None
    return shortened(lines[0] if error is None else f"{lines[0]}: {type(error).__name__}: {error}", MAX_CHARACTERS)
