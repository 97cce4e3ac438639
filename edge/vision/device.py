"""Prepares the processor, or an NVIDIA GPU (experimental: never run on a real board), for a bundle."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from edge.errors import BundleError
from edge.settings.schema import ModelSettings
from edge.vision.bundle import Bundle, Engine
from edge.vision.engine import host_target, use_engine
from edge.vision.torch_compat import runs_qint8

Place = Literal["cpu", "cuda"]  # torch's name of the device that holds the model


def open_cpu(bundle: Bundle, threads: int) -> Place:
    """Set torch's INT8 engine and its threads (0: one for each processor) for the whole process.

    Raises:
        BundleError: the bundle is for another machine or another torch.
    """
    manifest = bundle.manifest
    if manifest.target != host_target():
        raise BundleError(f"{bundle.name} was made for {manifest.target} and this is {host_target()}; export it here.")
    quantization = manifest.quantization
    use_engine(manifest.engine, small_pairs=quantization is not None and quantization.small_pairs)
    if quantization is not None and quantization.activations == "qint8" and not runs_qint8():
        raise BundleError(
            f"{bundle.name} needs XNNPACK, and this torch {torch.__version__} has none; export it again here."
        )
    threads = threads or len(os.sched_getaffinity(0))
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return "cpu"


def open_cuda(engine: Engine) -> Place:
    """Prepare the NVIDIA GPU.

    EXPERIMENTAL: it has never run on a Jetson. docs/jetson.md lists what is unproven.

    Raises:
        BundleError: torch finds no GPU, or TensorRT's runtime is missing.
    """
    if not torch.cuda.is_available():
        raise BundleError("The bundle is for a GPU, and torch sees none; install NVIDIA's torch, or export again.")
    if engine == "tensorrt":
        load_tensorrt_runtime()
    return "cuda"


OpenCuda = Callable[[Engine], Place]


def open_device(bundle: Bundle, settings: ModelSettings, open_gpu: OpenCuda) -> Place:
    """Prepare the device that a bundle is for, if `[model] device` allows it.

    Raises:
        BundleError: `[model] device` asks for another device, or this one cannot run the bundle.
    """
    on_gpu = bundle.manifest.target == "jetson"
    if on_gpu and settings.device == "cpu":
        raise BundleError(f"{bundle.name} runs on a GPU only; set model.device to auto, or export one for the CPU.")
    if not on_gpu and settings.device == "cuda":
        raise BundleError(
            f"{bundle.name} is INT8 for the CPU; set model.device to auto or cpu, or make one for the GPU with"
            " `edge-classifier export --target jetson`."
        )
    return open_gpu(bundle.manifest.engine) if on_gpu else open_cpu(bundle, settings.threads)


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
