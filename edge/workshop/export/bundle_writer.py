"""Writes a bundle: its files, the manifest that names their sha256, and the directory's name."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from edge.vision.bundle import bundle_name, write_digest
from edge.vision.installed import Installed, set_modes, state_errors
from edge.vision.manifest import MANIFEST, File, Manifest, dump_manifest


def write_bundle(
    contents: Mapping[str, tuple[str, bytes]], manifest: Manifest, models: Path, check: Callable[[Path], object]
) -> tuple[Path, Manifest]:
    """The bundle's directory in `models`, and `manifest` with the bundle's files.

    `contents` has the name and the content of each role's file.
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
        for name, content in contents.values():
            (home / name).write_bytes(content)
        files = {
            role: File(name=name, sha256=hashlib.sha256(content).hexdigest())
            for role, (name, content) in contents.items()
        }
        manifest = manifest.model_copy(update={"files": files})
        text = dump_manifest(manifest)
        (home / MANIFEST).write_bytes(text)
        write_digest(home)
        named = home.rename(staging / bundle_name(text, manifest.architecture, manifest.precision))
        set_modes(named)
        check(named)
        return installed.accept(named), manifest
