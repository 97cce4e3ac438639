"""The engine `torchscript`: INT8 TorchScript on the processor.

The option `kernels` is `onednn`, `fbgemm`, `qnnpack` or `xnnpack`, which are torch's, or `edge` for the kernels of
`edge/kernels/`.
"""

from __future__ import annotations

from edge.board.openmp import spin_briefly
from edge.errors import BundleError
from edge.kernels import library
from edge.vision.engines.engine import Files, Session
from edge.vision.engines.processor_check import refuse_other_processor
from edge.vision.engines.torch_library import (
    LIBRARY,
    LIBRARY_BYTES,
    PLATFORM,
    REMEDY,
    check_beside,
    refuse_without_torch,
    self_check,
    torch_engine,
)
from edge.vision.manifest import Manifest

__all__ = ["LIBRARY", "LIBRARY_BYTES", "PLATFORM", "REMEDY", "check", "check_beside", "describe", "load", "self_check"]

OWN = "edge"
BATCHED = ("onednn", "fbgemm")  # qnnpack's graph has one photo's strides in it


def check(manifest: Manifest) -> None:
    """See `Engine.check`: the instruction set, VNNI for weights of full range, and the library of our own kernels."""
    kernels = manifest.engine.options.get("kernels")
    refuse_other_processor(manifest, adds_pairs=kernels == "onednn")
    refuse_without_torch()
    if kernels == OWN:
        library.open_library()


def load(manifest: Manifest, files: Files, threads: int) -> Session:
    """See `Engine.load`. torch's kernels and its number of threads are set for the whole process."""
    refuse_without_torch()
    spin_briefly()
    import torch

    from edge.vision.engines.torch_kernels import use_kernels
    from edge.vision.engines.torch_session import TorchSession
    from edge.vision.torch_compat import runs_qint8

    kernels, quantization = str(manifest.engine.options.get("kernels")), manifest.quantization
    if kernels == OWN:
        from edge.kernels import operator

        operator.register()
    else:
        use_kernels(torch_engine(manifest))
        if quantization is not None and quantization.activations == "qint8" and not runs_qint8():
            raise BundleError(
                f"The bundle needs XNNPACK, and this torch {torch.__version__} has none; export it again here."
            )
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return TorchSession(manifest, files, takes_many=kernels in BATCHED)


def describe() -> str:
    """See `Engine.describe`."""
    from edge.vision.engines.torch_kernels import describe_torch

    try:
        own = f"; edge-classifier's own kernels, {library.open_library().instructions}"
    except library.KernelsError:
        own = ""
    return describe_torch() + own
