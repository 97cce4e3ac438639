"""Chooses the INT8 kernels of torch: its quantized engine, and the type of activations that this runs fastest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import torch

from edge.board.processor import InstructionSet, has_vnni, host_target
from edge.errors import BundleError
from edge.vision.torch_compat import runs_qint8

if TYPE_CHECKING:  # it imports pydantic, which `int8_check` must not need
    from edge.vision.manifest import Activations

Kernels = Literal["onednn", "fbgemm", "qnnpack"]

# x86 prefers `onednn`, which fuses the residual addition; `qnnpack` runs qint8 with XNNPACK and quint8 with QNNPACK.
# The fastest first. Builds of torch differ: Debian's has no FBGEMM, and on ARM no QNNPACK either.
PREFERRED: dict[InstructionSet, tuple[Kernels, ...]] = {
    "x86_64": ("onednn", "fbgemm", "qnnpack"),
    "arm64": ("qnnpack",),
}
_OTHER_TORCH: dict[InstructionSet, str] = {
    "x86_64": "install PyPI's (`pip install torch`)",
    "arm64": "install PyPI's 2.9.1 (`pip install torch==2.9.1`)",
}
# torch's build flags, and the names of the libraries that they stand for.
_LIBRARIES = {
    "FBGEMM": "FBGEMM",
    "MKL": "MKL",
    "MKLDNN": "oneDNN",
    "OPENMP": "OpenMP",
    "PYTORCH_QNNPACK": "QNNPACK",
    "XNNPACK": "XNNPACK",
}


def host_kernels(target: InstructionSet) -> Kernels:
    """The fastest kernels for `target` that this machine's torch has.

    Raises:
        BundleError: it has none.
    """
    supported = torch.backends.quantized.supported_engines
    for kernels in PREFERRED[target]:
        if kernels in supported:
            return kernels
    raise BundleError(
        f"This torch {torch.__version__} has no INT8 engine for {target} ({', '.join(PREFERRED[target])});"
        f" {_OTHER_TORCH[target]}."
    )


def needs_small_pairs(kernels: Kernels) -> bool:
    """Whether `kernels` add two products in 16 bits, as x86's do without VNNI: weights of full range would saturate."""
    return kernels in ("onednn", "fbgemm") and not has_vnni()


def host_activations(target: InstructionSet) -> Activations:
    """The fastest type of activations on `target`; call `use_kernels(host_kernels(target))` first.

    Some builds of torch for ARM lack XNNPACK (PyPI's from 2.13 on, pytorch#185297), so on an ARM machine it is tried.
    For another machine, whose torch cannot be tried here, XNNPACK is assumed.
    """
    if host_kernels(target) == "qnnpack" and (host_target() != target or runs_qint8()):
        return "qint8"
    return "quint8"


def use_kernels(kernels: str) -> None:
    """Set torch's quantized engine; call it before a model is loaded or made, because that packs the weights for it.

    torch's default on ARM, `onednn`, has no int8 kernels there and takes 5.6 times as long as FP32.

    Raises:
        BundleError: this torch lacks the engine.
    """
    if kernels not in torch.backends.quantized.supported_engines:
        here = host_kernels(host_target())  # if there is none, this raises what to install
        raise BundleError(
            f"The bundle was made for the engine {kernels}, which this torch {torch.__version__} lacks; export it again"
            f" here, for {here}."
        )
    torch.backends.quantized.engine = kernels


def describe_torch() -> str:
    """torch's version, and the libraries that it is built with, as its build says."""
    build = torch.__config__.show()
    found = [name for flag, name in _LIBRARIES.items() if re.search(rf"-DUSE_{flag}\b|USE_{flag}=(ON|1)", build)]
    return f"torch {torch.__version__}, built with {', '.join(found)}"
