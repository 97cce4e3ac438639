"""What the engines that use torch have in common, without importing it; both modules offer these names."""

from __future__ import annotations

import importlib.util

from edge.errors import BundleError
from edge.vision import int8_check
from edge.vision.manifest import Manifest

ENGINES = ("torchscript", "cuda")
LIBRARY = "torch"
LIBRARY_BYTES = 200 << 20  # of PyPI's for CUDA 268 MB, without the pages of its libraries; other builds take less
PLATFORM = "pytorch_torchscript"
REMEDY = (
    "Take PyPI's torch, as constraints.txt pins it: sudo ./install.sh does, or pip install -c constraints.txt torch."
)


def refuse_without_torch() -> None:
    """Refuse a bundle where torch is not installed.

    Raises:
        BundleError: it is not.
    """
    if importlib.util.find_spec("torch") is None:
        raise BundleError("The bundle needs torch, which is not installed here; install it, or use another bundle.")


def torch_engine(manifest: Manifest) -> str:
    """torch's quantized engine that a bundle needs; "" if it needs none, as with the kernels of `edge/kernels/`.

    XNNPACK is a part of torch's engine `qnnpack`: the one for signed activations.
    """
    kernels = str(manifest.engine.options.get("kernels"))
    return {"xnnpack": "qnnpack", "edge": ""}.get(kernels, kernels)


def self_check() -> int:
    """See `Engine.self_check`."""
    return int8_check.main()


def check_beside(running: Manifest, wanted: Manifest) -> None:
    """See `Engine.check_beside`: torch's kernels are the whole process's; our own run beside any."""
    if running.engine.name not in ENGINES:
        return
    now, then = torch_engine(running), torch_engine(wanted)
    if (now and then and now != then) or running.on_gpu != wanted.on_gpu:
        raise BundleError(
            f"The bundle needs the engine {wanted.engine}, and {running.engine} runs, which is the whole process's;"
            " stop the daemon, run `edge-classifier models use`, and start it again."
        )
