"""Chooses the INT8 kernels: torch's quantized engine, and the instruction set that a bundle is made for."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from edge.board import host
from edge.errors import BundleError
from edge.vision.torch_compat import runs_qint8

if TYPE_CHECKING:  # it imports pydantic, which `int8_check` must not need
    from edge.vision.bundle import Activations, Engine, Target

# The fastest first. Builds of torch differ: Debian's has no FBGEMM, and on ARM no QNNPACK either.
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


def cpu_flags(root: Path = host.ROOT) -> frozenset[str]:
    """The features that the kernel lists for the first CPU, such as `avx512_vnni` or `asimddp`."""
    info = host.cpu_info(root)
    return frozenset((info.get("flags") or info.get("Features", "")).split())


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
    """Whether `engine` adds two products in 16 bits, as x86's do without VNNI: weights of full range would saturate."""
    return engine in ("onednn", "fbgemm") and not cpu_flags() & {"avx512_vnni", "avx_vnni", "amx_int8"}


def host_activations(target: Target) -> Activations:
    """The fastest type of activations on `target`; call `use_engine(host_engine(target))` first.

    Some builds of torch for ARM lack XNNPACK (PyPI's from 2.13 on, pytorch#185297), so on an ARM machine it is tried.
    For another machine, whose torch cannot be tried here, XNNPACK is assumed.
    """
    if host_engine(target) == "qnnpack" and (host_target() != target or runs_qint8()):
        return "qint8"
    return "quint8"


def join_threads() -> None:
    """Prepare the calling thread for torch; the caller makes sure that no other thread is inferring.

    At a thread's first operation torch sets its thread count. Some versions then free the pool that XNNPACK uses, even
    while it is in use, and make another (caffe2/utils/threadpool/pthreadpool-cpp.cc).
    """
    torch.get_num_threads()


def use_engine(engine: str, *, small_pairs: bool) -> None:
    """Set torch's quantized engine; call it before a model is loaded or made, because that packs the weights for it.

    torch's default on ARM, `onednn`, has no int8 kernels there and takes 5.6 times as long as FP32.

    Args:
        engine: the bundle's engine.
        small_pairs: whether the sum of two products of its weights fits into 16 bits.

    Raises:
        BundleError: this torch lacks the engine, or this CPU cannot run it.
    """
    if engine not in torch.backends.quantized.supported_engines:
        here = host_engine(host_target())  # if there is none, this raises what to install
        raise BundleError(
            f"The bundle was made for the engine {engine}, which this torch {torch.__version__} lacks; export it again"
            f" here, for {here}."
        )
    if engine == "onednn" and not small_pairs and needs_small_pairs("onednn"):
        raise BundleError("The bundle was made for a CPU with VNNI, which this one lacks; export it again here.")
    torch.backends.quantized.engine = engine
