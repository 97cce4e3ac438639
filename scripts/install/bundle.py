"""Reads with Python's standard library alone what a model bundle is for, before anything is installed.

    bundle.py engine BUNDLE    prints the engine of a bundle's directory or tar archive, such as onnxruntime
    bundle.py target BUNDLE    prints what it was made for: arm64, x86_64, jetson, or any

Exits with 0 when it is done, and with 1 and a sentence where it is no bundle.
"""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path
from typing import Any

MANIFEST = "bundle.json"
MAX_BYTES = 1 << 20  # of a manifest


def manifest_of(bundle: Path) -> bytes:
    """The manifest of a bundle's directory, or of the first one in an archive; exits where there is none."""
    try:
        if bundle.is_dir():
            return (bundle / MANIFEST).read_bytes()
        with tarfile.open(bundle) as archive:
            for member in archive:
                named = Path(member.name).name == MANIFEST and member.size <= MAX_BYTES
                if named and (file := archive.extractfile(member)) is not None:
                    return file.read()
    except (OSError, EOFError, tarfile.TarError) as error:
        why = str(error).splitlines()[0]  # tarfile lists all that it tried
        sys.exit(f"{bundle} is no bundle ({why}); name an archive or a directory that export made.")
    sys.exit(f"{bundle} is no bundle: it holds no {MANIFEST}; name an archive or a directory that export made.")


def value_of(bundle: Path, key: str) -> Any:
    """A value of the bundle's manifest; exits where there is none."""
    try:
        return json.loads(manifest_of(bundle))[key]
    except (ValueError, KeyError, TypeError):
        sys.exit(f"{bundle} is no bundle: its {MANIFEST} cannot be read; export it again.")


def engine_of(bundle: Path) -> str:
    """The name of its engine. Bundles of schema 1, which hold it as a text, are torch's, and so are a GPU's."""
    engine = value_of(bundle, "engine")
    if isinstance(engine, str):
        return "torchscript"
    if not isinstance(engine, dict) or "name" not in engine:
        sys.exit(f"{bundle} is no bundle: its {MANIFEST} cannot be read; export it again.")
    return "torchscript" if engine["name"] == "cuda" else str(engine["name"])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["engine", bundle]:
            print(engine_of(Path(bundle)))
        case ["target", bundle]:
            print(value_of(Path(bundle), "target"))
        case _:
            sys.exit(__doc__)
