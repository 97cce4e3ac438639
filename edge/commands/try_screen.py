"""Formats an event for `try`: a bar for each of the top-3 labels, in 80 columns, in colour on a terminal."""

from __future__ import annotations

import os
import sys
from datetime import datetime

from edge.events import UNKNOWN, Event, Label

COLUMNS = 80
BAR = 24  # characters for 100 %
LABEL = 24
EIGHTHS = " ▏▎▍▌▋▊▉"
BOLD, DIM, GREEN, RESET = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[0m"


def event_lines(event: Event, *, colour: bool | None = None, unicode: bool | None = None) -> list[str]:
    """An event as up to three lines: local time, bar, confidence, label, and the latency in milliseconds.

    Args:
        event: the event.
        colour: use escape codes for colour; None: if standard output is a terminal and NO_COLOR is not set.
        unicode: draw bars with block characters; None: if standard output's encoding has them.
    """
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ if colour is None else colour
    unicode = writes_unicode() if unicode is None else unicode
    time = datetime.fromisoformat(event.time.replace("Z", "+00:00")).astimezone().strftime("%H:%M:%S")
    latency = f"{sum(event.latency_ms.values()):6.1f} ms"
    lines = []
    for rank, label in enumerate(event.top):
        first = rank == 0
        line = f"{time if first else '':8}  {bar(label.confidence, unicode=unicode)} {label.confidence:5.1f} %"
        name = _name(label, event.label) if first else label.label
        line = f"{line}  {name:{LABEL}.{LABEL}}{latency if first else ''}".rstrip()
        lines.append(f"{BOLD + GREEN if first else DIM}{line}{RESET}" if colour else line)
    return lines


def bar(percent: float, *, unicode: bool) -> str:
    """A bar for `percent`, padded to BAR characters, with a resolution of an eighth of a character."""
    eighths = round(max(0.0, min(100.0, percent)) / 100 * BAR * 8)
    if not unicode:
        return ("#" * round(eighths / 8)).ljust(BAR)
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()).ljust(BAR)


def writes_unicode() -> bool:
    """Whether standard output's encoding has the block characters and the arrow."""
    try:
        "█▏→".encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


def _name(best: Label, decision: str) -> str:
    if decision == best.label:
        return decision
    return f"{decision} ({best.label}?)" if decision == UNKNOWN else f"{decision} (now {best.label})"
