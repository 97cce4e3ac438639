"""Reads which processor this machine has: its instruction set, and the features by which kernels are chosen."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Literal

from edge.board import host
from edge.errors import BundleError

InstructionSet = Literal["arm64", "x86_64"]

_MACHINES: dict[str, InstructionSet] = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


def host_target() -> InstructionSet:
    """The instruction set of this machine.

    Raises:
        BundleError: it is neither x86_64 nor arm64.
    """
    machine = platform.machine().lower()
    if machine not in _MACHINES:
        raise BundleError(f"There are no INT8 kernels for {machine}; run on a 64-bit ARM or x86 machine.")
    return _MACHINES[machine]


def cpu_flags(root: Path = host.ROOT) -> frozenset[str]:
    """The features that the kernel lists for the first CPU, such as `avx512_vnni` or `asimddp`."""
    info = host.cpu_info(root)
    return frozenset((info.get("flags") or info.get("Features", "")).split())


def has_vnni() -> bool:
    """Whether this x86 processor adds four products in 32 bits; without, its INT8 kernels add two in 16 bits."""
    return bool(cpu_flags() & {"avx512_vnni", "avx_vnni", "amx_int8"})
