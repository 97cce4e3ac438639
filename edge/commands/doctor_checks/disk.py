"""The disk: room for the fallback log, and how fast it is written, which is what an SD card dies of."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edge.board import host
from edge.commands.doctor_checks.finding import Finding, unit_property
from edge.settings.schema import Settings

# A card of 32 GB bears some 500 rewrites. Small writes cost it several times their size, so that 5 GB a day use it
# up in about three years.
BUDGET_BYTES_A_DAY = 5e9
TELLING_AFTER_S = 3600.0  # what boot alone writes says nothing about a day
SECTOR_BYTES = 512  # of /sys/dev/block/*/stat, whatever the disk's own are
DAY_S = 86400.0


def space(settings: Settings) -> Finding:
    """Room for the fallback log to grow to its bound."""
    free, wanted = shutil.disk_usage(_existing(settings.fallback.path)).free, settings.fallback.max_bytes
    told = f"{free / 1e6:,.0f} MB free, and the fallback log may take {wanted / 1e6:,.0f} MB"
    if free > wanted:
        return Finding("disk", "ok", told)
    return Finding("disk", "warning", told, "Make room, or lower fallback.max_bytes.")


def writes(settings: Settings, root: Path = host.ROOT, uptime_s: float | None = None) -> Finding:
    """How much a day is written to the disk of the fallback log, by everything on this machine and by the service."""
    uptime_s = host.uptime_s() if uptime_s is None else uptime_s
    device = _existing(settings.fallback.path).stat().st_dev
    everything = _written(root / f"sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    if everything is None:
        return Finding("writes", "ok", "the disk of the fallback log does not tell what is written to it")
    if uptime_s < TELLING_AFTER_S:
        told = f"{everything / 1e6:,.0f} MB written since boot; after an hour this tells how much a day that makes"
        return Finding("writes", "ok", told)
    a_day = everything / uptime_s * DAY_S
    told = f"{a_day / 1e6:,.0f} MB a day are written to the disk{_by_the_service(root)}"
    if a_day <= BUDGET_BYTES_A_DAY:
        return Finding("writes", "ok", told)
    remedy = "Look who writes: sudo iotop -oa. deploy/journald.conf keeps the journal in memory."
    return Finding("writes", "warning", f"{told}; an SD card is to last for years.", remedy)


def _by_the_service(root: Path) -> str:
    pid = unit_property("MainPID")
    written = host.disk_bytes_written(root, int(pid)) if pid.isdecimal() and pid != "0" else None
    return "" if written is None else f", {written / 1e6:,.1f} MB by the service since its start"


def _written(stat: Path) -> int | None:
    """Bytes written since boot (Documentation/block/stat.rst: field 7, in sectors)."""
    try:
        return int(stat.read_text(encoding="ascii").split()[6]) * SECTOR_BYTES
    except (OSError, ValueError, IndexError):  # a file system without a disk of its own, as in a container
        return None


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
