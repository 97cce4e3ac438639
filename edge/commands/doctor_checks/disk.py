"""Checks of the disk: room for the fallback log, and bytes written a day, which wear out an SD card."""

from __future__ import annotations

import shutil
from pathlib import Path

from edge.board import host
from edge.commands.doctor_checks.finding import Finding, unit_property
from edge.settings.schema import FallbackSettings

# A card of 32 GB can be rewritten about 500 times. Small writes cost several times their size, so 5 GB a day wear it
# out in about three years.
BUDGET_BYTES_A_DAY = 5e9
MIN_UPTIME_S = 3600.0  # before, the writes of the boot itself would dominate
DAY_S = 86400.0


def space(fallback: FallbackSettings) -> Finding:
    """Whether the fallback log has room to grow to its limit."""
    free, wanted = shutil.disk_usage(_existing(fallback.path)).free, fallback.max_bytes
    sentence = f"{free / 1e6:,.0f} MB free, and the fallback log may take {wanted / 1e6:,.0f} MB"
    if free > wanted:
        return Finding("disk", "ok", sentence)
    return Finding("disk", "warning", sentence, "Make room, or lower fallback.max_bytes.")


def writes(fallback: FallbackSettings, root: Path = host.ROOT, uptime_s: float | None = None) -> Finding:
    """How much is written to the fallback log's disk: by all programs, a day, and by the service, since its start."""
    uptime_s = host.uptime_s() if uptime_s is None else uptime_s
    everything = host.device_bytes_written(_existing(fallback.path).stat().st_dev, root)
    if everything is None:
        return Finding("writes", "ok", "the kernel does not count what is written to the fallback log's disk")
    if uptime_s < MIN_UPTIME_S:
        since_boot = f"{everything / 1e6:,.0f} MB written since boot"
        return Finding("writes", "ok", f"{since_boot}; after an hour of uptime this line shows the amount a day")
    a_day = everything / uptime_s * DAY_S
    sentence = f"{a_day / 1e6:,.0f} MB a day are written to the disk{_by_the_service(root)}"
    if a_day <= BUDGET_BYTES_A_DAY:
        return Finding("writes", "ok", sentence)
    remedy = "To see which program writes: sudo iotop -oa. deploy/journald.conf keeps the journal in memory."
    return Finding("writes", "warning", f"{sentence}; an SD card wears out in less than three years.", remedy)


def _by_the_service(root: Path) -> str:
    pid = unit_property("MainPID")
    written = host.disk_bytes_written(root, int(pid)) if pid.isdecimal() and pid != "0" else None
    return "" if written is None else f", {written / 1e6:,.1f} MB by the service since its start"


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
