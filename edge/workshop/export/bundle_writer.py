"""Write what was made as a bundle, under its name."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from edge.vision.bundle import (
    GOLDEN,
    LABELS,
    MANIFEST,
    MODEL,
    Agreement,
    Engine,
    GoldenClass,
    InputContract,
    Manifest,
    Quantization,
    Target,
    bundle_name,
    write_digest,
)
from edge.vision.installed import Installed, set_modes, state_errors
from edge.vision.torch_compat import save_script
from edge.workshop.export.judge.agreement import Latency
from edge.workshop.export.weights.state_dict import Weights


@dataclass(frozen=True)
class Made:
    """A quantized model that answers as its FP32 self does, before it is written."""

    script: torch.jit.ScriptModule
    engine: Engine
    quantization: Quantization | None  # None: FP16
    contract: InputContract
    golden: tuple[GoldenClass, ...]
    agreement: Agreement
    latency: Latency


def write_bundle(
    made: Made,
    weights: Weights,
    models: Path,
    target: Target,
    golden: Path,
    names: Sequence[str],
    check: Callable[[Path], object],
) -> tuple[Path, Manifest, int]:
    """The bundle's directory, its manifest, and the size of its model in bytes.

    `check` is called with the whole bundle before it appears in `models`; where it raises, nothing appears.

    Raises:
        StateError: it cannot be written.
    """
    installed = Installed(models)
    with state_errors(models, "written"), ExitStack() as undo:
        staging = installed.staging("export")
        undo.callback(shutil.rmtree, staging, ignore_errors=True)
        home = staging / "unnamed"
        home.mkdir()
        save_script(made.script, home / MODEL)
        (home / LABELS).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        shutil.copyfile(golden, home / GOLDEN)
        manifest = Manifest(
            architecture=weights.architecture,
            precision="int8" if made.quantization else "fp16",
            target=target,
            engine=made.engine,
            torch=torch.__version__,
            files={file: _sha256_of(home / file) for file in (MODEL, LABELS, GOLDEN)},
            weights=weights.origin,
            quantization=made.quantization,
            input=made.contract,
            golden=made.golden,
            agreement=made.agreement,
        )
        text = (manifest.model_dump_json(by_alias=True, indent=2) + "\n").encode()
        (home / MANIFEST).write_bytes(text)
        write_digest(home)
        size = (home / MODEL).stat().st_size
        named = home.rename(staging / bundle_name(text, manifest.architecture, manifest.precision))
        set_modes(named)
        check(named)
        return installed.accept(named), manifest, size


def _sha256_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
