"""Checks of the engine's library, of a Jetson's GPU (experimental: never run on a real board), and of the bundle."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

from edge.board import host
from edge.board.child_process import run_apart
from edge.commands.doctor_checks.finding import Finding, Severity, our_command
from edge.errors import BundleError
from edge.settings.schema import Settings
from edge.vision.bundle import load_bundle
from edge.vision.engines import ENGINES, engine_named, engine_of
from edge.vision.trial import verify_bundle

INT8 = "For INT8 install NVIDIA's torch-tensorrt for this version of torch; for FP16 export with --precision fp16."
NVIDIA_TORCH = "Install NVIDIA's own torch for this JetPack; until then the model runs on the processor."
ASKED_FOR = (
    "Where torchvision's server can be reached: {0} export --weights default, then"
    " {0} models use NAME; or bring its weights and give export --weights FILE."
)
SELF_CHECK = "from edge.vision.engines import engine_named; sys.exit(engine_named(sys.argv[1]).self_check())"
SLOW = 2  # `Engine.self_check`: another build of the library would be much faster
# Loads the library that runs TensorRT's engines: only the linker knows whether what it needs is here.
GPU = """\
import json, torch
from edge.vision.engines.cuda import tensorrt_runtime
library, broken = tensorrt_runtime(), ""
try:
    if library is not None:
        torch.ops.load_library(library)
except OSError as error:
    broken = str(error.__cause__ or error)
print(json.dumps({
    "torch": torch.__version__,
    "cuda": torch.version.cuda or "",
    "reached": torch.cuda.is_available(),
    "runtime": library is not None,
    "broken": broken,
}))
"""


def engine(settings: Settings) -> Finding:
    """Whether the library that the bundle in use needs runs INT8 here; torch, where there is no bundle yet."""
    name = ENGINES[0]
    with contextlib.suppress(BundleError):  # `model` reports it
        manifest = load_bundle(settings.model.bundle).manifest
        engine_of(manifest)
        name = manifest.engine.name
    return library(name)


def library(name: str = ENGINES[0]) -> Finding:
    """Whether the library of an engine runs INT8 on this processor, as fast as it can."""
    of_engine = engine_named(name)
    ran = run_apart(SELF_CHECK, name)
    if ran.code == 0:
        return Finding(of_engine.LIBRARY, "ok", ran.output)
    severity: Severity = "warning" if ran.code == SLOW else "failure"
    return Finding(
        of_engine.LIBRARY,
        severity,
        ran.output or f"{of_engine.LIBRARY} does not run: {ran.last_line}",
        of_engine.REMEDY,
    )


def is_jetson(root: Path) -> bool:
    """Whether this is NVIDIA's Linux for Tegra."""
    return (root / "etc/nv_tegra_release").is_file()


def jetson(root: Path = host.ROOT, program: str = GPU) -> Finding:
    """Whether JetPack's CUDA and TensorRT, torch, and Torch-TensorRT's runtime fit together.

    EXPERIMENTAL: it has never run on a real board.

    Args:
        root: the directory that holds CUDA's files and Debian's package list.
        program: prints the versions of torch and Torch-TensorRT as JSON.
    """
    ran = run_apart(program)
    if ran.code != 0:
        return Finding("jetson", "warning", f"torch does not report on the GPU: {ran.last_line}", NVIDIA_TORCH)
    python = json.loads(ran.output)
    tensorrt = f"TensorRT {_tensorrt(root)}".strip()
    if (mismatch := _mismatch(python, _cuda(root), tensorrt)) is not None:
        return Finding("jetson", "warning", *mismatch)
    parts = f"torch {python['torch']}, CUDA {python['cuda']}, Torch-TensorRT and {tensorrt} fit together"
    return Finding("jetson", "ok", parts)


def _mismatch(python: dict[str, Any], cuda: str, tensorrt: str) -> tuple[str, str] | None:
    """The first part that does not fit JetPack's CUDA or TensorRT, and a remedy; None if all fit."""
    torch_version = f"torch {python['torch']}"
    if not python["cuda"]:
        return f"{torch_version} is built without CUDA.", NVIDIA_TORCH
    if cuda and cuda.partition(".")[0] != python["cuda"].partition(".")[0]:
        return f"{torch_version} is built for CUDA {python['cuda']}, and this JetPack has {cuda}.", NVIDIA_TORCH
    if not python["reached"]:
        groups = "Add the user to the groups video and render, and look at the kernel's log: dmesg | grep -i nvgpu"
        return f"CUDA {python['cuda']} does not reach the GPU.", groups
    if not python["runtime"]:
        return f"{torch_version} reaches the GPU; Torch-TensorRT is not installed, so the GPU runs FP16 only.", INT8
    if python["broken"]:
        return f"Torch-TensorRT does not run with {torch_version}, or not with {tensorrt} ({python['broken']}).", INT8
    return None


def model(settings: Settings) -> Finding:
    """Whether the bundle's checksums and its answer to its golden photo are right."""
    try:
        name, fallback = verify_bundle(settings.model.bundle, settings.model)
    except BundleError as error:
        return Finding("model", "failure", str(error))
    if fallback:
        return Finding("model", "warning", f"{name} is sound, but {fallback}.", ASKED_FOR.format(our_command()))
    return Finding("model", "ok", f"{name}: every checksum and the golden photo are right")


def _cuda(root: Path) -> str:
    """The version of JetPack's CUDA, such as 12.6.68; "" if it is not installed."""
    try:
        versions = json.loads((root / "usr/local/cuda/version.json").read_text(encoding="utf-8"))
        return str(versions["cuda"]["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _tensorrt(root: Path) -> str:
    """The version of JetPack's TensorRT in Debian's package list; "" if it is not installed."""
    try:
        listed = (root / "var/lib/dpkg/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r"^Package: libnvinfer\d+\n(?:.+\n)*?Version: (\d[\d.]*)", listed, re.MULTILINE)
    return found[1] if found else ""
