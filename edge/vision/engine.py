"""Which INT8 kernels run here: torch's quantized engine, and the instruction set a bundle is made for."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import get_args

import torch

from edge.errors import BundleError
from edge.vision.manifest_types import Activations, Engine, Target
from edge.vision.torch_compat import runs_qint8

# The fastest first; builds of torch differ in what they hold (Debian's has no FBGEMM, and on ARM no QNNPACK either).
_PREFERRED: dict[Target, tuple[Engine, ...]] = {"x86_64": ("onednn", "fbgemm", "qnnpack"), "arm64": ("qnnpack",)}
_OTHER_TORCH: dict[Target, str] = {
    "x86_64": "install PyPI's (`pip install torch`)",
    "arm64": "install PyPI's 2.9.1 (`pip install torch==2.9.1`)",
}
_MACHINES: dict[str, Target] = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


def host_target() -> Target:
    """The instruction set of this machine.

    Raises:
        BundleError: it is neither x86_64 nor arm64.
    """
    machine = platform.machine().lower()
    if machine not in _MACHINES:
        raise BundleError(f"There are no INT8 kernels for {machine}; run on a 64-bit ARM or x86 machine.")
    return _MACHINES[machine]


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The features that the kernel lists for the first CPU, such as `avx512_vnni` or `asimddp`."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def has_full_range(flags: frozenset[str]) -> bool:
    """Whether x86's int8 kernels add up products in 32 bits; without VNNI they add two in 16, and saturate."""
    return bool(flags & {"avx512_vnni", "avx_vnni", "amx_int8"})


def host_engine(target: Target) -> Engine:
    """The fastest engine for `target` that this machine's torch has.

    Raises:
        BundleError: it has none.
    """
    supported = torch.backends.quantized.supported_engines
    for engine in _PREFERRED[target]:
        if engine in supported:
            return engine
    raise BundleError(
        f"This torch {torch.__version__} has no INT8 engine for {target} ({', '.join(_PREFERRED[target])});"
        f" {_OTHER_TORCH[target]}."
    )


def needs_small_pairs(engine: Engine) -> bool:
    """Whether `engine` on this machine adds two products in 16 bits, which weights of full range overflow."""
    return engine in ("onednn", "fbgemm") and not has_full_range(cpu_flags())


def host_activations(target: Target) -> Activations:
    """The type of activations that is fastest on `target`, once `use_engine(host_engine(target))` was called.

    torch builds for ARM without XNNPACK exist (2.13 and later on PyPI, pytorch#185297), so it is tried. What
    another machine's torch holds cannot be tried here: its bundle is made for XNNPACK, or not at all.
    """
    if host_engine(target) == "qnnpack" and (host_target() != target or runs_qint8()):
        return "qint8"
    return "quint8"


def use_threads(count: int) -> None:
    """Compute with `count` threads, in all of the process; called again with the same count it changes nothing."""
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def join_threads() -> None:
    """Make the calling thread one that torch computes in; no inference may run in another meanwhile.

    At a thread's first operation torch sets its thread count, for which some versions free the pool that XNNPACK
    uses, whoever is using it, and make another (caffe2/utils/threadpool/pthreadpool-cpp.cc).
    """
    torch.get_num_threads()


def use_engine(engine: str, *, small_pairs: bool) -> None:
    """Make `engine` torch's; has to happen before a model is loaded or made, which packs weights for it.

    The default on ARM is a trap: `onednn` has no int8 kernels there and takes 5.6 times FP32's work.

    Args:
        engine: of the bundle.
        small_pairs: whether the sum of two of its products fits into 16 bits.

    Raises:
        BundleError: this torch was built without it, or this CPU cannot run it.
    """
    if engine not in get_args(Engine) or engine not in torch.backends.quantized.supported_engines:
        here = host_engine(host_target())  # which says what to install where there is none
        raise BundleError(
            f"The bundle was made for the engine {engine}, which this torch {torch.__version__} lacks; export it again"
            f" here, for {here}."
        )
    if engine == "onednn" and not small_pairs and needs_small_pairs("onednn"):
        raise BundleError("The bundle was made for a CPU with VNNI, which this one lacks; export it again here.")
    torch.backends.quantized.engine = engine
