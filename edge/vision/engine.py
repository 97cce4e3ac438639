"""Which INT8 kernels run here: torch's quantized engine, and the instruction set a bundle is made for."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Literal, get_args

import torch

from edge.errors import BundleError
from edge.vision.torch_compat import runs_qint8

Target = Literal["arm64", "x86_64", "jetson"]  # a Jetson's GPU; its processor is arm64
# `onednn` has the fused residual and, without VNNI's saturation, full range; `fbgemm` is for older x86 CPUs;
# `qnnpack` hands qint8 to XNNPACK and quint8 to QNNPACK.
# On a GPU: `tensorrt` for INT8, `cuda` for FP16.
Engine = Literal["onednn", "fbgemm", "qnnpack", "tensorrt", "cuda"]
GPU_ENGINES = ("tensorrt", "cuda")
Activations = Literal["quint8", "qint8", "int8"]  # int8 is TensorRT's: symmetric

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
    """Whether x86's int8 kernels add up four products without saturating, so that activations may use 8 bits."""
    return bool(flags & {"avx512_vnni", "avx_vnni", "amx_int8"})


def host_engine(target: Target) -> Engine:
    """The fastest engine for `target` on this machine."""
    if target == "arm64":
        return "qnnpack"
    return "onednn" if has_full_range(cpu_flags()) else "fbgemm"


def host_activations(target: Target) -> Activations:
    """The type of activations that is fastest on `target`, once `use_engine(host_engine(target))` was called.

    torch builds for ARM without XNNPACK exist (2.13 and later on PyPI, pytorch#185297), so it is tried. What
    another machine's torch holds cannot be tried here: its bundle is made for XNNPACK, or not at all.
    """
    if target == "arm64" and (host_target() != "arm64" or runs_qint8()):
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


def use_engine(engine: str) -> None:
    """Make `engine` torch's; has to happen before a model is loaded or made, which packs weights for it.

    The default on ARM is a trap: `onednn` has no int8 kernels there and takes 5.6 times FP32's work.

    Raises:
        BundleError: this torch was built without it, or this CPU cannot run it.
    """
    if engine not in get_args(Engine) or engine not in torch.backends.quantized.supported_engines:
        raise BundleError(f"This torch {torch.__version__} has no engine {engine}; export the bundle again here.")
    if engine == "onednn" and not has_full_range(cpu_flags()):
        raise BundleError("The bundle was made for a CPU with VNNI, which this one lacks; export it again here.")
    torch.backends.quantized.engine = engine
