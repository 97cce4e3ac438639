"""How `try` prints an event: a bar for each of the top-3 labels, 80 columns, in colour on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime

from edge.events import UNKNOWN, Event, Label

BAR = 24  # characters for 100 %
LABEL = 24
EIGHTHS = " ▏▎▍▌▋▊▉"
BOLD, DIM, GREEN, RESET = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[0m"


def event_lines(event: Event, *, colour: bool | None = None, unicode: bool | None = None) -> list[str]:
    """An event as up to three lines: local time, bar, confidence, label, and the milliseconds it took.

    Args:
        event: the event.
        colour: use escape codes for colour; None: if standard output is a terminal and NO_COLOR is not set.
        unicode: draw bars with block characters; None: if standard output's encoding has them.
    """
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ if colour is None else colour
    unicode = _writes_unicode() if unicode is None else unicode
    time = datetime.fromisoformat(event.time.replace("Z", "+00:00")).astimezone().strftime("%H:%M:%S")
    took = f"{sum(event.latency_ms.values()):6.1f} ms"
    lines = []
    for rank, label in enumerate(event.top):
        first = rank == 0
        line = f"{time if first else '':8}  {bar(label.confidence, unicode=unicode)} {label.confidence:5.1f} %"
        line += f"  {_name(label, event.label if first else label.label):{LABEL}.{LABEL}}{took if first else ''}"
        if colour:
            line = f"{BOLD + GREEN if first else DIM}{line.rstrip()}{RESET}"
        lines.append(line.rstrip())
    return lines


def bar(percent: float, *, unicode: bool) -> str:
    """A bar for `percent`, padded to BAR characters, with a resolution of an eighth of a character."""
    eighths = round(max(0.0, min(100.0, percent)) / 100 * BAR * 8)
    if not unicode:
        return ("#" * round(eighths / 8)).ljust(BAR)
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()).ljust(BAR)


def _name(label: Label, decision: str) -> str:
    if decision == label.label:
        return label.label
    return f"{decision} ({label.label}?)" if decision == UNKNOWN else f"{decision} (now {label.label})"


def heading(parts: Sequence[str]) -> str:
    """One line with an arrow between the parts."""
    return (" → " if _writes_unicode() else " -> ").join(parts)


def _writes_unicode() -> bool:
    try:
        "█▏→".encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True
