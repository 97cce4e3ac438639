"""Reads what a benchmark depends on: board, processor, library, and the temperature, throttling and load."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path

from edge.board import host
from edge.board.processor import cpu_flags
from edge.vision.engines import engine_of
from edge.vision.manifest import Manifest
from edge.workshop.bench.result import Candidate, Condition, Machine, Made

# The CPU features by which oneDNN, FBGEMM, XNNPACK and QNNPACK choose their INT8 kernels.
KERNEL_FEATURES = (
    *("asimd", "asimdhp", "asimddp", "i8mm", "sve", "bf16"),
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8"),
)


def gpu_name() -> str:
    """The name of the GPU that torch uses."""
    import torch

    return torch.cuda.get_device_name()


def machine(manifest: Manifest, root: Path = host.ROOT, gpu_name: Callable[[], str] = gpu_name) -> Machine:
    """The hardware and software that every figure depends on; `root` holds /proc and /sys."""
    flags, memory = cpu_flags(root), host.memory_total_bytes(root)
    return Machine(
        board=host.board(root),
        cpu=host.cpu_name(root),
        cpu_parts=host.cpu_parts(root),
        processors=len(os.sched_getaffinity(0)),
        cpu_features=tuple(feature for feature in KERNEL_FEATURES if feature in flags),
        python=platform.python_version(),
        library=engine_of(manifest).describe(),
        engine=str(manifest.engine),
        gpu=gpu_name() if manifest.on_gpu else "",
        system=host.system_name(root),
        kernel=host.kernel(),
        memory_mb=None if memory is None else round(memory / 1e6),
        governor=host.governor(root),
        max_mhz=host.frequency_mhz(root)[1],
    )


def made(manifest: Manifest) -> Made:
    """How the bundle was made, and which engines `export` compared then."""
    quantization, measured = manifest.quantization, manifest.measured
    return Made(
        precision=manifest.precision,
        activations=quantization.activations if quantization else "",
        library=manifest.engine.library,
        board=measured.board if measured else "",
        threads=measured.threads if measured else None,
        candidates=tuple(
            Candidate(engine=str(one), ms=one.ms, agrees=one.agrees, reason=one.reason)
            for one in (measured.candidates if measured else ())
        ),
    )


def condition(root: Path = host.ROOT) -> Condition:
    """Temperature, frequency, throttling and load now, and the throttling that the board has recorded since boot."""
    strain, since_boot = host.strain(root), host.strain_since_boot(root)
    return Condition(
        temperature_celsius=strain.temperature_celsius,
        mhz=host.frequency_mhz(root)[0],
        under_voltage=strain.under_voltage,
        throttled=strain.throttled,
        load=round(os.getloadavg()[0], 1),
        under_voltage_since_boot=since_boot.under_voltage,
        throttled_since_boot=since_boot.throttled,
        over_current_events=strain.over_current_events,
    )
