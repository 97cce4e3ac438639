"""The engine `cuda` (experimental: never run on a real board): an NVIDIA GPU through torch.

The option `kernels` is `tensorrt` for INT8, which holds a TensorRT engine, and `cuda` for FP16.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from edge.errors import BundleError
from edge.vision.engines.engine import Files, Session
from edge.vision.engines.torch_library import (
    LIBRARY,
    LIBRARY_BYTES,
    PLATFORM,
    REMEDY,
    check_beside,
    refuse_without_torch,
    self_check,
)
from edge.vision.manifest import Manifest

__all__ = ["LIBRARY", "LIBRARY_BYTES", "PLATFORM", "REMEDY", "check", "check_beside", "describe", "load", "self_check"]


def check(manifest: Manifest) -> None:
    """See `Engine.check`; whether there is a GPU is known to torch only, so `load` refuses where there is none."""
    refuse_without_torch()


def load(manifest: Manifest, files: Files, threads: int) -> Session:
    """See `Engine.load`; the GPU has its own threads."""
    refuse_without_torch()
    from edge.vision.engines.torch_session import TorchSession

    return TorchSession(manifest, files, place=open_gpu(str(manifest.engine.options.get("kernels"))))


def describe() -> str:
    """See `Engine.describe`."""
    import torch

    from edge.vision.engines.torch_kernels import describe_torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{describe_torch()}, CUDA {torch.version.cuda or 'none'}, {name}"


def open_gpu(kernels: str) -> str:
    """Prepare the NVIDIA GPU, and return torch's name of it.

    EXPERIMENTAL: it has never run on a Jetson. docs/jetson.md lists what is unproven.

    Raises:
        BundleError: torch finds no GPU, or TensorRT's runtime is missing.
    """
    import torch

    if not torch.cuda.is_available():
        raise BundleError("The bundle is for a GPU, and torch sees none; install NVIDIA's torch, or export again.")
    if kernels == "tensorrt":
        load_tensorrt_runtime()
    return "cuda"


def tensorrt_runtime() -> Path | None:
    """Torch-TensorRT's runtime library, or None. Its Python package is not imported, since that loads the compiler."""
    spec = importlib.util.find_spec("torch_tensorrt")
    folder = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
    library = folder and folder / "lib" / "libtorchtrt_runtime.so"
    return library if library and library.is_file() else None


def load_tensorrt_runtime() -> None:
    """Load the library with which torch runs TensorRT's engines (experimental).

    Raises:
        BundleError: the library is missing or cannot be loaded.
    """
    import torch

    reason = "is not installed"
    try:
        if (library := tensorrt_runtime()) is not None:
            torch.ops.load_library(library)  # type: ignore[no-untyped-call]
            return
    except OSError as error:
        linker = error.__cause__ or error  # torch wraps the linker's error
        reason = f"cannot be loaded ({str(linker).splitlines()[0]})"
    raise BundleError(
        f"The bundle holds a TensorRT engine and Torch-TensorRT's runtime {reason}; install torch-tensorrt,"
        " or export again with --precision fp16."
    )
