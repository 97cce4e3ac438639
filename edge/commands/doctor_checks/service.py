"""Checks of the systemd unit: installed, confined, running; and why it was restarted."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path

from edge.commands.doctor_checks.finding import UNIT, Finding, output_of, unit_property

EXPOSED = 2.1  # on systemd-analyze's scale from 0 to 10; the installed unit has 2.0, on a Jetson 2.1
# systemd.journal-fields(7): "the unit has entered the 'failed' state", with UNIT_RESULT.
FAILED = "MESSAGE_ID=d9b373ed55a64feb8242e02dbe79a49c"
RESULTS = {
    "watchdog": "it hung, and the watchdog ended it",
    "oom-kill": "it, or the machine, ran out of memory",
    "signal": "it was killed or crashed",
    "core-dump": "it crashed",
    "exit-code": "it ended with an error",
    "timeout": "it did not start or stop in time",
}


def service() -> Finding:
    """Whether the unit is installed and runs, and no drop-in gives it more access than the installed unit has."""
    if not _installed():
        return Finding("service", "warning", "not installed as a service", "Install it: sudo ./install.sh")
    state = unit_property("ActiveState")
    if state != "active":
        why = f"{state}, last result: {unit_property('Result')}"
        return Finding("service", "failure", why, f"Look at: journalctl -u {UNIT} -n 50")
    analysis = output_of("systemd-analyze", "security", "--no-pager", UNIT)
    found = re.search(r"exposure level for \S+: (\d+(?:\.\d+)?)", analysis)  # in its last line
    exposure = float(found[1]) if found else None
    if exposure is not None and exposure > EXPOSED:
        loose = f"runs, but less confined than installed: exposure {exposure} instead of {EXPOSED} at most"
        return Finding("service", "warning", loose, f"Look at what its drop-ins allow: systemctl cat {UNIT}")
    return Finding("service", "ok", "runs" if exposure is None else f"runs, confined (exposure {exposure})")


def restarts() -> Finding:
    """How often systemd restarted it since boot, and when and why it did so last."""
    if not _installed():
        return Finding("restarts", "ok", "not installed as a service")
    count = unit_property("NRestarts")
    if count in ("", "0"):
        return Finding("restarts", "ok", "none since it was started")
    journal = ("journalctl", "--boot", "--unit", UNIT, "--output", "json", "--no-pager")
    failures = output_of(*journal, FAILED)
    errors = output_of(*journal, "--priority", "err", f"SYSLOG_IDENTIFIER={UNIT}", "--lines", "1")
    sentence = f"{count} since it was started{last_failure(failures)}{last_error(errors)}"
    return Finding("restarts", "warning", sentence, f"Look at: journalctl -u {UNIT} -p warning")


def _installed() -> bool:
    return Path("/run/systemd/system").is_dir() and unit_property("LoadState") == "loaded"


def last_failure(journal: str) -> str:
    """The newest failure in the journal's JSON lines, as the end of a sentence; "" if there is none."""
    lines = journal.splitlines()
    if not lines:
        return ""
    entry = json.loads(lines[-1])
    at = datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / 1e6).astimezone()
    result = str(entry.get("UNIT_RESULT", "unknown"))
    return f", the last {at:%Y-%m-%d %H:%M}: {RESULTS.get(result, result)}"


def last_error(journal: str) -> str:
    """The daemon's last error message, in parentheses, from the journal's JSON lines; "" if there is none."""
    lines = journal.splitlines()
    message = json.loads(lines[-1]).get("MESSAGE") if lines else None  # an array of bytes if it is not text
    first = message.strip().splitlines()[:1] if isinstance(message, str) else []
    return f" ({first[0]})" if first else ""
