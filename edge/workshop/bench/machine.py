"""The machine that is measured: board, processor, torch build, and how it feels."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from pathlib import Path

import torch

from edge.board import host
from edge.vision.bundle import GPU_ENGINES, Engine
from edge.vision.engine import cpu_flags
from edge.workshop.bench.result import Condition, Machine

# What the INT8 kernels of oneDNN, FBGEMM, XNNPACK and QNNPACK look for.
KERNEL_FEATURES = (
    *("asimd", "asimdhp", "asimddp", "i8mm", "sve", "bf16"),
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8"),
)
# torch's build flags, and what the libraries behind them are called.
LIBRARIES = {
    "FBGEMM": "FBGEMM",
    "MKL": "MKL",
    "MKLDNN": "oneDNN",
    "OPENMP": "OpenMP",
    "PYTORCH_QNNPACK": "QNNPACK",
    "XNNPACK": "XNNPACK",
}


def machine(
    engine: Engine, root: Path = host.ROOT, gpu_name: Callable[[], str] = torch.cuda.get_device_name
) -> Machine:
    """Name everything that a figure depends on; `root` holds /proc and /sys."""
    flags = cpu_flags(root / "proc/cpuinfo")
    return Machine(
        board=host.board(root),
        cpu=_cpu_name(root),
        processors=len(os.sched_getaffinity(0)),
        cpu_features=tuple(feature for feature in KERNEL_FEATURES if feature in flags),
        python=platform.python_version(),
        torch=torch.__version__,
        torch_build=", ".join(_libraries()),
        engine=engine,
        gpu=gpu_name() if engine in GPU_ENGINES else "",
    )


def condition(root: Path = host.ROOT) -> Condition:
    """Temperature, supply and load right now, and what the board remembers of strain."""
    strain, since_boot = host.strain(root), host.strain_since_boot(root)
    return Condition(
        temperature_celsius=strain.temperature_celsius,
        under_voltage=strain.under_voltage,
        throttled=strain.throttled,
        load=round(os.getloadavg()[0], 1),
        under_voltage_since_boot=since_boot.under_voltage,
        throttled_since_boot=since_boot.throttled,
        over_current_events=strain.over_current_events,
    )


def _libraries() -> list[str]:
    described = torch.__config__.show()
    return [name for flag, name in LIBRARIES.items() if re.search(rf"-DUSE_{flag}\b|USE_{flag}=(ON|1)", described)]


def _cpu_name(root: Path) -> str:
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.machine()
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()
