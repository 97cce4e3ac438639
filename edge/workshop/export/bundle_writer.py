"""Writes a traced model as a bundle: its files, the manifest that names their sha256, and the directory's name."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from edge.vision.bundle import GOLDEN, LABELS, MANIFEST, MODEL, Manifest, bundle_name, write_digest
from edge.vision.installed import Installed, set_modes, state_errors
from edge.vision.torch_compat import save_script


def write_bundle(
    script: torch.jit.ScriptModule,
    manifest: Manifest,
    names: Sequence[str],
    golden: Path,
    models: Path,
    check: Callable[[Path], object],
) -> tuple[Path, Manifest]:
    """The bundle's directory in `models`, and `manifest` with the bundle's files.

    `check` is called with the complete bundle before it is moved to `models`; if it raises, nothing is moved.

    Raises:
        StateError: the bundle cannot be written.
    """
    installed = Installed(models)
    with state_errors(models, "written"), ExitStack() as undo:
        staging = installed.staging("export")
        undo.callback(shutil.rmtree, staging, ignore_errors=True)
        home = staging / "unnamed"
        home.mkdir()
        save_script(script, home / MODEL)
        (home / LABELS).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        shutil.copyfile(golden, home / GOLDEN)
        files = {name: hashlib.sha256((home / name).read_bytes()).hexdigest() for name in (MODEL, LABELS, GOLDEN)}
        manifest = manifest.model_copy(update={"files": files})
        text = (manifest.model_dump_json(by_alias=True, indent=2) + "\n").encode()
        (home / MANIFEST).write_bytes(text)
        write_digest(home)
        named = home.rename(staging / bundle_name(text, manifest.architecture, manifest.precision))
        set_modes(named)
        check(named)
        return installed.accept(named), manifest
