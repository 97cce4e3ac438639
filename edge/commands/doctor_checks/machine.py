"""Checks of the machine: 64-bit userland, clock, power supply and temperature."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from edge.board import host
from edge.board.throttling import HOT_CELSIUS
from edge.commands.doctor_checks.finding import Finding

SUPPLY = "Use the board's own supply and a short cable."
COOLING = "Give it a heat sink and air."


def userland() -> Finding:
    """Whether the userland is 64-bit, as torch needs; on a Pi a 64-bit kernel may have a 32-bit userland."""
    machine = platform.machine()
    if sys.maxsize > 2**32 and machine in ("aarch64", "x86_64"):
        return Finding("userland", "ok", f"64-bit {machine}, Python {platform.python_version()}, {host.board()}")
    bits = sys.maxsize.bit_length() + 1
    remedy = "Install a 64-bit system, such as Raspberry Pi OS (64-bit)."
    return Finding("userland", "failure", f"This is {machine} with a {bits}-bit Python.", remedy)


def clock() -> Finding:
    """Whether the clock is synchronised, according to the kernel."""
    if host.clock_synchronised():
        return Finding("clock", "ok", "synchronised")
    remedy = "Wait a minute after boot, then look at: timedatectl timesync-status"
    return Finding("clock", "warning", "not synchronised: events are marked as having an uncertain time", remedy)


def power(root: Path = host.ROOT) -> Finding:
    """Supply and temperature, now and since boot."""
    now, before = host.strain(root), host.strain_since_boot(root)
    celsius = now.temperature_celsius
    heat = "no sensor" if celsius is None else f"{celsius:.0f} °C"
    if now.under_voltage:
        return Finding("power", "warning", f"The supply sags ({heat}).", SUPPLY)
    if now.throttled or (celsius or 0) >= HOT_CELSIUS:
        return Finding("power", "warning", f"The processor is slowed down or hot ({heat}).", COOLING)
    if before.under_voltage or now.over_current_events:
        return Finding("power", "warning", f"The supply has sagged since boot; now it is fine ({heat}).", SUPPLY)
    if before.throttled:
        return Finding("power", "warning", f"The processor was slowed down since boot; now {heat}.", COOLING)
    return Finding("power", "ok", heat)
