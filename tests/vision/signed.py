"""Bundles whose checksums and name all match whatever they contain, so that only their answers can reveal a fault."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.vision.bundle import GOLDEN, LABELS, bundle_name, write_digest
from edge.vision.installed import Installed
from edge.vision.manifest import MANIFEST

MODEL = "model.ts"  # in bundles of schema 1


def signed_text(home: Path, text: bytes) -> Path:
    """Write `text` as the manifest of the bundle in `home`, and give the directory the matching name."""
    (home / MANIFEST).write_bytes(text)
    write_digest(home)
    try:
        document = json.loads(text)
        name = bundle_name(text, document["architecture"], document["precision"])
        return home.rename(home.parent / name)
    except (ValueError, TypeError, KeyError, OSError, RecursionError):
        return home  # the text gives no name


def signed(
    original: Path,
    folder: Path,
    change: Callable[[dict[str, Any]], object] = lambda document: None,
    **contents: bytes,
) -> Path:
    """A copy of a bundle in `folder` with other contents and another manifest, with new checksums.

    `contents` are called model, head, labels and golden; the model is the trunk of a bundle of schema 2.
    """
    home = folder / "unnamed"
    shutil.copytree(original, home)
    document = json.loads((home / MANIFEST).read_text())
    for role, content in contents.items():
        digest = hashlib.sha256(content).hexdigest()
        if document["schema"] == 1:
            name = {"model": MODEL, "labels": LABELS, "golden": GOLDEN}[role]
            document["files"][name] = digest
        else:
            name = document["files"]["trunk" if role == "model" else role]["name"]
            document["files"]["trunk" if role == "model" else role]["sha256"] = digest
        (home / name).write_bytes(content)
    change(document)
    return signed_text(home, json.dumps(document).encode())


def small_bundle(folder: Path, labels: bytes = b"cat\ndog\nowl\n") -> Path:
    """A bundle of a few bytes in `folder`, of schema 1, valid except for its model, which cannot run."""
    home = folder / "unnamed"
    home.mkdir()
    contents = {MODEL: b"model", LABELS: labels, GOLDEN: b"photo"}
    for file, content in contents.items():
        (home / file).write_bytes(content)
    manifest = {
        "schema": 1,
        "architecture": "resnet18",
        "precision": "int8",
        "target": "x86_64",
        "engine": "onednn",
        "torch": "2.6.0",
        "files": {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()},
        "weights": {"source": "w.pth", "sha256": "0" * 64, "license": "CC0-1.0"},
        "quantization": {"ranges": "data-free", "photos": 0, "levels": 256, "activations": "quint8"},
        "input": {"size": 224, "resize": 256, "border": [3, 3], "border_rgb": [124, 116, 104],
                  "colour": "RGB", "dtype": "uint8", "layout": "NHWC"},
        "golden": [{"index": i, "confidence": 90.0 - 40 * i} for i in range(3)],
        "agreement": None,
    }  # fmt: skip
    return signed_text(home, json.dumps(manifest).encode())


def install(models: Path, *bundles: Path) -> Installed:
    models.mkdir(parents=True, exist_ok=True)
    for bundle in bundles:
        shutil.copytree(bundle, models / bundle.name)
    installed = Installed(models)
    installed.switch(bundles[0].name)
    return installed


def lying(bundle: Path, folder: Path) -> Path:
    """A bundle whose checksums all match, but whose answer to its golden photo is wrong."""
    folder.mkdir()
    return signed(bundle, folder, lambda document: document["golden"][0].update(confidence=1.0))


def with_other_labels(bundle: Path, folder: Path) -> Path:
    folder.mkdir()
    return signed(bundle, folder, labels="".join(f"thing {n}\n" for n in range(1000)).encode())
