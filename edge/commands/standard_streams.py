"""Makes standard input, output and error usable however a command was started.

They may be closed (`>&-`), full (`>/dev/full`), or have an encoding that lacks some of our characters.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from edge.errors import OutputError

PLAIN = {
    **dict.fromkeys("█▉▊▋▌▍▎▏", "#"),
    **dict.fromkeys("–−─", "-"),
    **{"→": "->", "…": "...", "×": "x", "·": "-", "│": "|", "±": "+-", "°": "", "µ": "u", "σ": "s", "ᵀ": "T"},
    **{"¹": "1", "²": "2", "³": "3"},
}
PLAIN_ERRORS = "edge-plain"  # the name of `_plain` for codecs


class _Output(io.FileIO):
    """Standard output, whose errors can be distinguished from those of other files."""

    def write(self, data: Any, /) -> int:
        try:
            while (written := super().write(data)) is None:  # its other end made the pipe or terminal non-blocking
                select.select([], [self], [])
            return written
        except BrokenPipeError:
            raise
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(f"The output cannot be written ({reason}); send it elsewhere, or make room.") from error


def prepare() -> None:
    """Let every later read and write of the standard streams work; to be called before any file is opened.

    From then on a write to standard output raises OutputError where it would raise an OSError, but for BrokenPipeError.
    """
    # A file that gets the number of a closed stream would take what libraries print: the fallback log, for example.
    with suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # it was closed
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the process ends
    codecs.register_error(PLAIN_ERRORS, _plain)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout is sys.__stdout__:
        before = sys.stdout
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Output(before.fileno(), "wb", closefd=False)),
            encoding=before.encoding,
            line_buffering=before.line_buffering,
            write_through=before.write_through,
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PLAIN_ERRORS)


def drop_unwritten(stream: TextIO) -> None:
    """Drop what was not written; Python would try again at its exit, and print another error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_error(sentence: str) -> None:
    """Print an error to standard error, if that takes it."""
    with suppress(OSError):
        print(f"edge-classifier: {sentence}", file=sys.stderr)
    flush_errors()


def flush_errors() -> None:
    """Write what waits for standard error, or drop it where that takes no more."""
    try:
        sys.stderr.flush()
    except OSError:
        drop_unwritten(sys.stderr)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    plain = (PLAIN.get(one, one.encode("ascii", "backslashreplace").decode()) for one in missing)
    return "".join(plain), error.end
