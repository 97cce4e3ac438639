"""Tests that a board's temperature, memory and other facts are read correctly, and that missing ones give None."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.board import host

Tree = Callable[[dict[str, str]], Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    def grow(files: dict[str, str]) -> Path:
        for name, content in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        return tmp_path

    return grow


ZONES = "sys/class/thermal"


def test_boot_id_is_eight_digits_that_last_until_the_next_boot(tree: Tree) -> None:
    root = tree({"proc/sys/kernel/random/boot_id": "5f1c2e7a-0b1d-4a9c-8f7e-112233445566\n"})
    assert host.boot_id(root) == "5f1c2e7a"
    assert host.boot_id() == host.boot_id() != "00000000"


def test_uptime_counts_from_boot() -> None:
    before = host.uptime_s()
    assert before >= time.monotonic() - 1  # boot time includes suspend
    assert host.uptime_s() >= before


def test_the_kernel_answers_about_its_clock_or_it_counts_as_not_synchronised() -> None:
    assert host.clock_synchronised() in (True, False)


def test_the_processors_zone_counts_not_the_hottest_of_the_board(tree: Tree) -> None:
    root = tree(
        {
            f"{ZONES}/thermal_zone0/type": "cpu-thermal",
            f"{ZONES}/thermal_zone0/temp": "61234\n",
            f"{ZONES}/thermal_zone1/type": "gpu-thermal",
            f"{ZONES}/thermal_zone1/temp": "80000\n",
            f"{ZONES}/thermal_zone2/type": "CPU-therm",
            f"{ZONES}/thermal_zone2/temp": "63625\n",
        }
    )
    assert host.temperature_celsius(root) == 63.6


def test_a_zone_that_is_powered_off_does_not_count(tree: Tree) -> None:
    root = tree({f"{ZONES}/thermal_zone0/type": "cv0-thermal", f"{ZONES}/thermal_zone0/temp": "-256000\n"})
    assert host.temperature_celsius(root) is None


@pytest.mark.parametrize("soc", ["soc/soc:firmware", "soc@107c000000/soc@107c000000:firmware"])
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("0", host.Strain()),
        ("1", host.Strain(under_voltage=True)),
        ("50005", host.Strain(under_voltage=True, throttled=True)),
        ("50000", host.Strain()),  # was so since boot, is not now
        ("0x8", host.Strain(throttled=True)),
        ("2", host.Strain(throttled=True)),
    ],
)
def test_a_pis_firmware_reports_voltage_and_throttling(tree: Tree, soc: str, flags: str, expected: host.Strain) -> None:
    root = tree({f"sys/devices/platform/{soc}/get_throttled": flags + "\n"})
    assert host.strain(root) == expected


def test_without_the_firmwares_file_the_voltage_alarm_is_left(tree: Tree) -> None:
    root = tree(
        {
            "sys/class/hwmon/hwmon0/name": "cpu_thermal",
            "sys/class/hwmon/hwmon0/in0_lcrit_alarm": "1",
            "sys/class/hwmon/hwmon1/name": "rpi_volt",
            "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0",
        }
    )
    assert host.strain(root) == host.Strain()
    (root / "sys/class/hwmon/hwmon1/in0_lcrit_alarm").write_text("1\n")
    assert host.strain(root) == host.Strain(under_voltage=True)


def test_a_jetsons_cooling_devices_report_throttling_but_a_fan_does_not(tree: Tree) -> None:
    root = tree(
        {
            f"{ZONES}/cooling_device0/type": "pwm-fan",
            f"{ZONES}/cooling_device0/cur_state": "3",
            f"{ZONES}/cooling_device1/type": "cpufreq-cpu0",
            f"{ZONES}/cooling_device1/cur_state": "0",
        }
    )
    assert host.strain(root) == host.Strain()
    (root / f"{ZONES}/cooling_device1/cur_state").write_text("2\n")
    assert host.strain(root) == host.Strain(throttled=True)


def test_a_jetsons_over_current_events_are_summed(tree: Tree) -> None:
    monitor = "sys/class/hwmon/hwmon3"
    root = tree({f"{monitor}/name": "soctherm_oc", f"{monitor}/oc1_event_cnt": "2", f"{monitor}/oc3_event_cnt": "5"})
    assert host.strain(root).over_current_events == 7
    assert host.strain(root / "proc").over_current_events == 0


def test_the_boards_name(tree: Tree) -> None:
    assert host.board(tree({})) != ""
    assert host.board(tree({"proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0"})) == (
        "Raspberry Pi 4 Model B Rev 1.4"
    )


def test_what_this_process_used(tree: Tree) -> None:
    root = tree(
        {
            "proc/self/io": "rchar: 5\nwrite_bytes: 8192\ncancelled_write_bytes: 0\n",
            "proc/self/status": "Name:\tedge\nVmRSS:\t  1024 kB\n",
        }
    )
    assert host.disk_bytes_written(root) == 8192
    assert host.memory_bytes(root) == 1024 * 1024
    # The kernel updates its memory counters in batches, so the two may differ by one batch for each processor.
    resident = host.memory_bytes() or 0
    assert resident > 1_000_000
    assert (host.peak_memory_bytes() or 0) > 0.9 * resident


def test_freed_memory_goes_back_to_the_system() -> None:
    small = [bytes(50_000) for _ in range(2_000)]  # too small for glibc to return them one by one
    last = small.pop()
    held = host.memory_bytes() or 0
    del small
    host.return_freed_memory()
    assert len(last) == 50_000  # it was kept, so that glibc could not have shortened its heap
    assert (host.memory_bytes() or 0) < held - 80_000_000


def test_a_board_that_reports_nothing_is_no_error(tree: Tree) -> None:
    root = tree({f"{ZONES}/thermal_zone0/type": "cpu", f"{ZONES}/thermal_zone0/temp": "asleep", "proc/self/io": ""})
    assert host.boot_id(root) == "00000000"
    assert host.temperature_celsius(root) is None
    assert host.strain(root) == host.Strain()
    assert host.disk_bytes_written(root) is None
    assert host.memory_bytes(root) is None


def test_the_memory_that_is_left_is_the_boards_or_the_services_whichever_is_less(tree: Tree) -> None:
    group = "sys/fs/cgroup/system.slice/edge-classifier.service"
    root = tree(
        {
            "proc/meminfo": "MemTotal:  4096 kB\nMemAvailable:  2048 kB\n",
            "proc/self/cgroup": "0::/system.slice/edge-classifier.service\n",
            f"{group}/memory.max": "max\n",
            f"{group}/memory.current": "1048576\n",
        }
    )
    assert host.memory_free_bytes(root) == 2 << 20
    tree({f"{group}/memory.max": "1572864\n"})
    assert host.memory_free_bytes(root) == 1 << 19
    tree({f"{group}/memory.max": "1000000\n"})
    assert host.memory_free_bytes(root) == 0
    # A service that has read a large file is not out of memory: the kernel can free its cache.
    tree({f"{group}/memory.stat": "anon 300000\nfile 700000\ninactive_file 500000\nactive_file 100000\n"})
    assert host.memory_free_bytes(root) == 1000000 - 1048576 + 600000
    assert (host.memory_free_bytes() or 0) > 0
    assert host.memory_free_bytes(root / "nothing") is None


def test_without_a_free_file_descriptor_every_reading_is_unknown_and_none_is_an_error() -> None:
    script = """
import os
from resource import RLIMIT_NOFILE, getrlimit, setrlimit
from edge.board import host
setrlimit(RLIMIT_NOFILE, (os.open("/dev/null", os.O_RDONLY), getrlimit(RLIMIT_NOFILE)[1]))
print(host.strain(), host.strain_since_boot(), host.temperature_celsius(), host.memory_bytes(), host.boot_id())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    nothing = host.Strain()
    assert done.stdout.split("\n")[0] == f"{nothing} {nothing} None None 00000000"


def test_the_system_and_the_clock_are_read_from_their_files(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n')
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:        1024 kB\nMemAvailable:     512 kB\n")
    for number, (now, most) in enumerate([("600000", "1800000"), ("1500000", "2400000")]):
        policy = tmp_path / f"sys/devices/system/cpu/cpufreq/policy{number * 4}"
        policy.mkdir(parents=True)
        (policy / "scaling_cur_freq").write_text(now)
        (policy / "scaling_max_freq").write_text(most)
        (policy / "scaling_governor").write_text("ondemand\n")
    assert host.system_name(tmp_path) == "Debian GNU/Linux 13 (trixie)"
    assert host.memory_total_bytes(tmp_path) == 1 << 20
    assert host.governor(tmp_path) == "ondemand"
    assert host.frequency_mhz(tmp_path) == (1500.0, 2400.0)


def test_a_machine_without_these_files_has_no_clock(tmp_path: Path) -> None:
    assert (host.system_name(tmp_path), host.governor(tmp_path)) == ("", "")
    assert host.frequency_mhz(tmp_path) == (None, None)


def test_the_cores_of_a_big_little_processor_are_named_once_each(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    core = "processor : {}\nCPU implementer\t: 0x41\nCPU variant\t: 0x1\nCPU part\t: {}\nCPU revision\t: 0\n\n"
    cores = [core.format(number, part) for number, part in enumerate(["0xd05"] * 4 + ["0xd0b"] * 2)]
    (tmp_path / "proc/cpuinfo").write_text("".join(cores))
    assert host.cpu_parts(tmp_path) == ("0x41 0xd05", "0x41 0xd0b")
