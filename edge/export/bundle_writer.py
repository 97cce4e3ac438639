"""Write a bundle under its name."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from edge.errors import StateError
from edge.vision.bundle import GOLDEN, LABELS, MANIFEST, MODEL, Manifest, bundle_name


def sha256_of(file: Path) -> str:
    """The hex digest of a file's contents."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def publish(staging: Path, manifest: Manifest, models: Path) -> Path:
    """Move the staged bundle to `models` under its name; returns its directory."""
    text = manifest.to_json().encode("utf-8")
    target = models / bundle_name(text, manifest.architecture, manifest.precision)
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
