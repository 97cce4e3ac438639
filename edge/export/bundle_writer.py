"""Write a bundle under its name."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from edge.errors import StateError
from edge.vision.bundle import GOLDEN, LABELS, MANIFEST, MODEL, Manifest, bundle_name


def sha256_of(file: Path) -> str:
    """The hex digest of a file's contents."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def new_staging(models: Path) -> Path:
    """A hidden directory in `models` to build a bundle in, so that it appears whole or not at all.

    Raises:
        StateError: `models` cannot be made or written.
    """
    try:
        models.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=models, prefix=".export-"))
    except OSError as error:
        raise StateError(
            f"{models} cannot be written ({error.strerror}); run as a user who may, or choose another with --output."
        ) from error


def publish(staging: Path, manifest: Manifest) -> Path:
    """Give the staged bundle its name; returns its directory."""
    text = manifest.to_json().encode("utf-8")
    target = staging.parent / bundle_name(text, manifest.architecture, manifest.precision)
    try:
        (staging / MANIFEST).write_bytes(text)
        for file in (MODEL, LABELS, GOLDEN, MANIFEST):
            (staging / file).chmod(0o644)  # every user may classify
            with (staging / file).open("rb") as written:
                os.fsync(written.fileno())
        staging.chmod(0o755)
        if target.exists():  # the same export again: its manifest is the same, byte for byte
            shutil.rmtree(target)
        staging.rename(target)
    except OSError as error:
        raise StateError(f"{target} cannot be written ({error.strerror}); free some space and export again.") from error
    return target
