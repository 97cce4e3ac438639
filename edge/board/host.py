"""Reads the board's clock, boot id, temperature, throttling, memory and disk writes from the kernel.

All of /proc and /sys is read below `root`, so that tests can supply their own tree. A reading that the board does not
have, or that fails, is None, never an error. To read another sensor, begin here.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger("edge.board.host")

ROOT = Path("/")
_LIBC = ctypes.CDLL(None, use_errno=True)  # loaded once: each loading leaves 2 kB for the garbage collector
STA_UNSYNC = 0x0040  # linux/timex.h
TIME_ERROR = 5
SECTOR_BYTES = 512  # of /sys/dev/block/*/stat (Documentation/block/stat.rst), for disks of any sector size
# Bits of get_throttled of the Raspberry Pi's firmware: the state now; shifted left by 16, at any time since boot.
UNDER_VOLTAGE = 1 << 0
SLOWED_DOWN = 1 << 1 | 1 << 2 | 1 << 3  # frequency capped, throttled, soft temperature limit


class _Timex(ctypes.Structure):
    # struct timex of linux/timex.h: modes and status are ints, most others longs, 11 ints of padding at the end.
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 32),  # more than the kernel fills in
    )


@dataclass(frozen=True, slots=True)
class Strain:
    """What limits a board: its power supply and its temperature."""

    under_voltage: bool = False  # usually because of a weak adapter or cable
    throttled: bool = False  # the firmware or kernel slows the processor down, because of heat or voltage
    temperature_celsius: float | None = None  # of the processor; None without a sensor
    over_current_events: int = 0  # of a Jetson, since boot


def boot_id(root: Path = ROOT) -> str:
    """The first 8 hex digits of the kernel's boot id; zeros where there is none."""
    return (_text(root / "proc/sys/kernel/random/boot_id") or "").replace("-", "")[:8] or "0" * 8


def uptime_s() -> float:
    """Seconds since boot, including suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def clock_synchronised() -> bool:
    """Whether NTP or PTP disciplines the kernel's clock, according to adjtimex.

    False where adjtimex is not permitted, as in some containers: events then carry `"time_synced": false`.
    """
    timex = _Timex(modes=0)  # modes 0: read only
    state = _LIBC.adjtimex(ctypes.byref(timex))
    if state < 0:
        logger.debug("adjtimex: %s; the clock counts as not synchronised", os.strerror(ctypes.get_errno()))
        return False
    # TIME_ERROR also covers a failing clock, which STA_UNSYNC alone does not.
    return state != TIME_ERROR and not timex.status & STA_UNSYNC


def temperature_celsius(root: Path = ROOT) -> float | None:
    """The processor's temperature: the hottest of its thermal zones."""
    zones = _found(root / "sys/class/thermal", "thermal_zone*")
    of_cpu = [zone for zone in zones if re.match("cpu|soc|x86_pkg", _text(zone / "type") or "", re.IGNORECASE)]
    readings = [_integer(zone / "temp") for zone in of_cpu or zones]
    # A zone that is powered off gives an error or a value far below freezing.
    hottest = max((r for r in readings if r is not None and -40_000 < r < 200_000), default=None)
    return None if hottest is None else round(hottest / 1000, 1)


def strain(root: Path = ROOT) -> Strain:
    """The board's power supply and temperature now.

    A Pi's firmware reports under-voltage and throttling. Where its kernel does not pass them on, the rpi_volt driver
    still has an under-voltage alarm. On a Jetson (experimental: never run on one) and other boards the cooling
    devices of the processor show whether it is throttled; a Jetson also counts how often its supply limited it.
    """
    celsius = temperature_celsius(root)
    events = sum(_readings(root, "soctherm_oc", "oc*_event_cnt"))
    if (flags := _firmware_flags(root)) is not None:
        return Strain(bool(flags & UNDER_VOLTAGE), bool(flags & SLOWED_DOWN), celsius, events)
    return Strain(1 in _readings(root, "rpi_volt", "in0_lcrit_alarm"), _cooled(root), celsius, events)


def strain_since_boot(root: Path = ROOT) -> Strain:
    """Whether the board was under-powered or slowed down at any time since boot; only a Pi's firmware records it."""
    flags = (_firmware_flags(root) or 0) >> 16
    return Strain(bool(flags & UNDER_VOLTAGE), bool(flags & SLOWED_DOWN))


def _firmware_flags(root: Path) -> int | None:
    # A Pi 5's names have addresses.
    files = _found(root / "sys/devices/platform", "soc*/*firmware/get_throttled")
    return next((flags for file in files if (flags := _integer(file, 16)) is not None), None)


def _readings(root: Path, driver: str, files: str) -> list[int]:
    """The values in the files that match the pattern `files`, of each hwmon device of `driver`."""
    devices = [d for d in _found(root / "sys/class/hwmon", "hwmon*") if _text(d / "name") == driver]
    values = [_integer(file) for device in devices for file in _found(device, files)]
    return [value for value in values if value is not None]


def _cooled(root: Path) -> bool:
    """Whether the kernel throttles the processor: one of its cooling devices (fans do not count) is active."""
    return any(
        (_text(device / "type") or "").lower().startswith(("cpufreq", "cpu-throttle", "cpu_throttle"))
        and (_integer(device / "cur_state") or 0) > 0
        for device in _found(root / "sys/class/thermal", "cooling_device*")
    )


def board(root: Path = ROOT) -> str:
    """The board's name, such as `Raspberry Pi 5 Model B Rev 1.0`; the machine's architecture where it has none."""
    for file in ("proc/device-tree/model", "sys/class/dmi/id/product_name"):
        if name := (_text(root / file) or "").strip("\0 "):
            return name
    return os.uname().machine


def cpu_name(root: Path = ROOT) -> str:
    """The processor's name; a Pi's kernel gives the board's instead; the machine's architecture where it gives none."""
    info = cpu_info(root)
    return info.get("model name") or info.get("Model") or os.uname().machine


def cpu_parts(root: Path = ROOT) -> tuple[str, ...]:
    """The different cores of an ARM processor, each as implementer and part, such as `0x41 0xd08`: a Cortex-A72."""
    found = re.findall(
        r"^CPU implementer\s*: (\w+)$.*?^CPU part\s*: (\w+)$",
        _text(root / "proc/cpuinfo") or "",
        re.MULTILINE | re.DOTALL,
    )
    return tuple(dict.fromkeys(" ".join(core) for core in found))


def cpu_info(root: Path = ROOT) -> dict[str, str]:
    """The fields of /proc/cpuinfo, such as `model name` and `flags`: of the first CPU, where each has its own."""
    return _fields(root / "proc/cpuinfo")


def system_name(root: Path = ROOT) -> str:
    """The operating system, such as `Debian GNU/Linux 13 (trixie)`; "" where it gives no name."""
    return _fields(root / "etc/os-release", "=").get("PRETTY_NAME", "").strip("\"'")


def kernel() -> str:
    """The kernel's release, such as `6.12.47+rpt-rpi-v8`."""
    return os.uname().release


def memory_total_bytes(root: Path = ROOT) -> int | None:
    """The board's memory."""
    return _bytes(root / "proc/meminfo", "MemTotal")


def governor(root: Path = ROOT) -> str:
    """What chooses the processors' frequency, such as `ondemand`; "" where the kernel does not change it."""
    found = {_text(policy / "scaling_governor") or "" for policy in _frequency_policies(root)}
    return ", ".join(sorted(found - {""}))


def frequency_mhz(root: Path = ROOT) -> tuple[float | None, float | None]:
    """The frequency of the fastest processor now, and the highest that is allowed; None where it is unknown."""
    now, most = (
        max((khz for policy in _frequency_policies(root) if (khz := _integer(policy / name))), default=None)
        for name in ("scaling_cur_freq", "scaling_max_freq")
    )
    return None if now is None else now / 1000, None if most is None else most / 1000


def _frequency_policies(root: Path) -> list[Path]:
    return _found(root / "sys/devices/system/cpu/cpufreq", "policy*")


def disk_bytes_written(root: Path = ROOT, process: int | None = None) -> int | None:
    """Bytes that a process (default: this one) has written to storage since it started."""
    return _bytes(root / f"proc/{process or 'self'}/io", "write_bytes")


def device_bytes_written(device: int, root: Path = ROOT) -> int | None:
    """Bytes that all programs have written since boot to a block device, given by its number (`st_dev`).

    None where the kernel does not count them, as for a container's file system.
    """
    fields = (_text(root / f"sys/dev/block/{os.major(device)}:{os.minor(device)}/stat") or "").split()
    return int(fields[6]) * SECTOR_BYTES if len(fields) > 6 else None


def memory_bytes(root: Path = ROOT) -> int | None:
    """This process's resident memory."""
    return _bytes(root / "proc/self/status", "VmRSS")


def peak_memory_bytes(root: Path = ROOT) -> int | None:
    """The peak of this process's resident memory."""
    return _bytes(root / "proc/self/status", "VmHWM")


def memory_free_bytes(root: Path = ROOT) -> int | None:
    """Memory that this process can still allocate: the board's free memory, or less under the service's limit."""
    board_free = _bytes(root / "proc/meminfo", "MemAvailable")
    free = [] if board_free is None else [board_free]
    cgroup = (_text(root / "proc/self/cgroup") or "").rpartition("0::/")[2].split("\n")[0]  # version 2: one line
    group = root / "sys/fs/cgroup" / cgroup
    limit, used = (_integer(group / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:  # "max" is no limit
        # The page cache of files, such as the model's, counts as used and can be reclaimed.
        cache = sum(_bytes(group / "memory.stat", name, " ") or 0 for name in ("inactive_file", "active_file"))
        free.append(max(0, limit - used + min(cache, used)))
    return min(free, default=None)


def return_freed_memory() -> None:
    """Return to the system what this process has freed, of which glibc keeps much for later."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:  # other C libraries lack it
        trim(0)


def _found(directory: Path, pattern: str) -> list[Path]:
    try:
        return sorted(directory.glob(pattern))
    except OSError:  # before Python 3.13, such as without a free file descriptor
        return []


def _fields(path: Path, separator: str = ":") -> dict[str, str]:
    """A file's lines of a name and a value; the first of each name."""
    fields: dict[str, str] = {}
    for line in (_text(path) or "").splitlines():
        name, _, value = line.partition(separator)
        fields.setdefault(name.strip(), value.strip())
    return fields


def _bytes(path: Path, name: str, separator: str = ":") -> int | None:
    number, _, unit = _fields(path, separator).get(name, "").partition(" ")
    return int(number) * (1024 if unit == "kB" else 1) if number.isdecimal() else None


def _integer(path: Path, base: int = 10) -> int | None:
    try:
        return int(_text(path) or "", base)
    except ValueError:
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # not there, or a sensor that is asleep
        return None
