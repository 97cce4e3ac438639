"""What a trunk for the processor can be made for: torch's kernels, those of `edge/kernels/`, and ONNX Runtime."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from edge.board.processor import InstructionSet, has_vnni, host_target
from edge.errors import BundleError
from edge.frames import Pixels
from edge.kernels import library
from edge.vision.bundle import TRUNK
from edge.vision.engines import onnxruntime
from edge.vision.engines.torch_kernels import Kernels, host_kernels, needs_small_pairs, use_kernels
from edge.vision.manifest import Activations, Engine, Target
from edge.vision.torch_compat import runs_qint8
from edge.workshop.export.engine_names import AUTO, FASTEST, ONNX_RUNTIME, TORCHSCRIPT
from edge.workshop.export.network.float_network import FloatNetwork
from edge.workshop.export.quantize import int8_network, kernels_network, onnx_network
from edge.workshop.export.quantize.ranges import Range

ONNX_TRUNK = "trunk.onnx"
NOT_INSTALLED = "ONNX Runtime is not installed"
# The candidates, the usually fastest first. Without XNNPACK, QNNPACK is one of them.
_TRIED: dict[InstructionSet, tuple[str, ...]] = {
    "x86_64": ("onednn", "fbgemm", "xnnpack"),
    "arm64": ("xnnpack", "edge"),
}
Make = Callable[[FloatNetwork, Mapping[str, Range], Pixels], bytes]  # of a network, its ranges, and a buffer


@dataclass(frozen=True)
class Recipe:
    """One way to make a trunk."""

    name: str  # as `--engine` takes it
    engine: Engine
    target: Target
    activations: Activations
    small_pairs: bool
    file: str  # the trunk's name in a bundle
    make: Make
    use: Callable[[], None]  # sets what belongs to the whole process, before the trunk is loaded or run


@dataclass(frozen=True)
class Refused:
    """An engine for which no trunk can be made here; `reason` has no full stop."""

    name: str
    engine: Engine
    reason: str


def recipes(choice: str | None, target: InstructionSet, network: FloatNetwork) -> tuple[list[Recipe], list[Refused]]:
    """The ways to make the trunk, and those that are not possible here.

    Args:
        choice: `auto` for all that are TorchScript, `fastest` for those and ONNX Runtime, an engine's name for this
            one alone, or None for the one that is usually the fastest.
        target: the instruction set.
        network: the float network.

    Raises:
        BundleError: no engine can be used, or not the named one.
    """
    if choice not in (None, AUTO, FASTEST):
        refused = _refusal(str(choice), target, network)
        if refused:
            remedy = f"install it (`{onnxruntime.PIP}`), " if refused == NOT_INSTALLED else ""
            raise BundleError(
                f"No model for the engine {choice} can be made here: {refused}; {remedy}name another engine, or leave"
                " --engine out."
            )
        return [_recipe(str(choice), target)], []
    found: list[Recipe] = []
    refusals: list[Refused] = []
    names = [*_TRIED[target], *([ONNX_RUNTIME] if choice == FASTEST else [])]
    for name in names:
        if reason := _refusal(name, target, network):
            refusals.append(Refused(name, _engine(name), reason))
        else:
            found.append(_recipe(name, target))
    if not any(recipe.name in ("onednn", "xnnpack") for recipe in found) and not _refusal("qnnpack", target, network):
        found.append(_recipe("qnnpack", target))
    if not any(recipe.name in TORCHSCRIPT for recipe in found):
        host_kernels(target)  # raises what to install
    if choice is None:
        return [next(recipe for recipe in found if recipe.name != "edge")], []
    return found, refusals


def _refusal(name: str, target: InstructionSet, network: FloatNetwork) -> str:
    """Why no trunk can be made for an engine, without a full stop; "" if it can."""
    if name == ONNX_RUNTIME:
        if importlib.util.find_spec("onnxruntime") is None:
            return NOT_INSTALLED
        reason = onnxruntime.unavailable()
        try:
            if not reason:
                onnxruntime.describe()  # imports it
        except BundleError as error:
            reason = str(error)
        return reason.rstrip(".")
    return _refusal_of_ours(target, network) if name == "edge" else _refusal_of_torch(name, target)


def _refusal_of_ours(target: InstructionSet, network: FloatNetwork) -> str:
    if target != "arm64":
        return f"these kernels are for arm64, and the bundle is for {target}"
    if unserved := kernels_network.unserved(network.architecture):
        return f"these kernels do not serve {network.architecture.name}, because {unserved}"
    return library.unavailable().rstrip(".")


def _refusal_of_torch(name: str, target: InstructionSet) -> str:
    if name in ("onednn", "fbgemm") and target == "arm64":
        return "on arm64 these kernels of torch have no INT8"
    engine = _TORCHS[name]
    if engine not in torch.backends.quantized.supported_engines:
        return f"this torch {torch.__version__} has no {engine}"
    if name == "xnnpack" and target == host_target():
        # Some builds of torch lack XNNPACK: PyPI's for ARM from 2.13 on (pytorch#185297), and those for x86.
        use_kernels(engine)
        return "" if runs_qint8() else f"this torch {torch.__version__} has no XNNPACK for INT8"
    return ""


_TORCHS: dict[str, Kernels] = {"onednn": "onednn", "fbgemm": "fbgemm", "xnnpack": "qnnpack", "qnnpack": "qnnpack"}


def _engine(name: str) -> Engine:
    if name == ONNX_RUNTIME:
        return Engine(name=ONNX_RUNTIME)
    return Engine(name="torchscript", options={"kernels": name}, library=f"torch {torch.__version__}")


def _recipe(name: str, target: InstructionSet) -> Recipe:
    if name == ONNX_RUNTIME:
        return _onnx_recipe(target)
    if name == "edge":
        return Recipe(
            name,
            _engine(name),
            target,
            "qint8",
            small_pairs=False,
            file=TRUNK,
            make=lambda network, ranges, _: kernels_network.trunk_bytes(network, ranges),
            use=lambda: None,
        )
    kernels = _TORCHS[name]
    activations: Activations = "qint8" if name == "xnnpack" else "quint8"
    small_pairs = needs_small_pairs(kernels)

    def make(network: FloatNetwork, ranges: Mapping[str, Range], buffer: Pixels) -> bytes:
        return int8_network.trunk_bytes(
            network, ranges, torch.from_numpy(buffer), kernels, activations, small_pairs=small_pairs
        )

    use = lambda: use_kernels(kernels)  # noqa: E731
    return Recipe(name, _engine(name), target, activations, small_pairs, TRUNK, make, use)


def _onnx_recipe(target: InstructionSet) -> Recipe:
    # Each type of activations runs on both processors, but only one of them is fast on each.
    activations: Activations = "qint8" if target == "arm64" else "quint8"
    small_pairs = target == "x86_64" and not has_vnni()

    def make(network: FloatNetwork, ranges: Mapping[str, Range], _: Pixels) -> bytes:
        return onnx_network.trunk_bytes(network, ranges, activations, small_pairs=small_pairs)

    engine = Engine(name=ONNX_RUNTIME, library=onnxruntime.describe())
    return Recipe(ONNX_RUNTIME, engine, "any", activations, small_pairs, ONNX_TRUNK, make, use=lambda: None)
