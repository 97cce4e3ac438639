"""A model bundle on disk: the trunk, the head, the labels, a golden photo, and `bundle.json` with their sha256.

`load_bundle` reads one and checks every byte; `manifest.py` describes the fields of `bundle.json`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge.errors import BundleError
from edge.vision.manifest import DIGEST, MANIFEST, Manifest, read_manifest
from edge.vision.ownership import refuse_if_others_may_write

# The files that `export` writes; `bundle.json` names them by role, and other names are read too.
TRUNK = "trunk.ts"
HEAD = "head.npz"
LABELS = "labels.txt"
GOLDEN = "golden.jpg"
MODEL_ROLES = ("trunk", "head", "model")  # the files that hold weights
MAX_FILE_BYTES = 1 << 30
MAX_NAME = 200  # characters of a class's name, which goes into every event


@dataclass(frozen=True)
class Bundle:
    """A bundle with correct checksums. It holds the bytes that were hashed, so later changes on disk do not matter."""

    name: str  # such as "resnet18-int8-3fa9c1"
    directory: Path
    manifest: Manifest
    labels: tuple[str, ...]
    files: Mapping[str, bytes]  # by role, such as `trunk`

    @property
    def golden(self) -> Path:
        """The file with the golden photo."""
        return self.directory / self.manifest.files["golden"].name

    @property
    def model_bytes(self) -> int:
        """The size of the files that hold weights."""
        return sum(len(content) for role, content in self.files.items() if role in MODEL_ROLES)


def bundle_name(manifest_text: bytes, architecture: str, precision: str) -> str:
    """The name that a bundle must have: architecture, precision, 6 hex digits of its manifest's sha256."""
    return f"{architecture}-{precision}-{hashlib.sha256(manifest_text).hexdigest()[:6]}"


def write_digest(home: Path) -> None:
    """Write `bundle.sha256` with the manifest's whole sha256, of which the bundle's name has only six digits."""
    digest = hashlib.sha256((home / MANIFEST).read_bytes()).hexdigest()
    (home / DIGEST).write_text(f"{digest}  {MANIFEST}\n", encoding="ascii")


def load_bundle(directory: Path, *, given: bool = False) -> Bundle:
    """Read a bundle and check every byte of it.

    Args:
        directory: the bundle's own, or a link to it.
        given: the user named it on the command line, which implies trust in its owner.

    Raises:
        BundleError: it is missing, incomplete, modified, writable by other users, or of another version.
    """
    try:
        home = Path(os.path.realpath(directory, strict=True))  # a loop of links is an OSError here in every Python
        refuse_if_others_may_write(home.parent.parent, given=True)  # where `models/` could be replaced by another
        refuse_if_others_may_write(home.parent, given=given)
        refuse_if_others_may_write(home, given=given)
        text = _read(home / MANIFEST, given=given)
        manifest = read_manifest(text, home / MANIFEST)
        name = bundle_name(text, manifest.architecture, manifest.precision)
        if home.name != name:
            raise BundleError(f"{home} should be called {name} by its {MANIFEST}: it was changed; export it again.")
        if os.path.lexists(home / DIGEST):
            digest = _read(home / DIGEST, given=given).split()[:1]
            if digest != [hashlib.sha256(text).hexdigest().encode()]:
                raise BundleError(f"{home / MANIFEST} does not have the sha256 in {DIGEST}; export the bundle again.")
        files = {role: _read(home / file.name, given=given) for role, file in manifest.files.items()}
        for role, content in files.items():
            if hashlib.sha256(content).hexdigest() != manifest.files[role].sha256:
                raise BundleError(
                    f"{home / manifest.files[role].name} does not have the sha256 in {MANIFEST}: truncated or changed;"
                    " export the bundle again."
                )
        labels = _labels(files["labels"], manifest, home / manifest.files["labels"].name)
    except FileNotFoundError as error:
        # Name the bundle itself: realpath's error names its first missing parent.
        named = directory.exists() or directory.is_symlink()
        missing = error.filename if named else f"bundle {directory}"
        raise BundleError(f"There is no {missing}; make a bundle with `edge-classifier export`.") from error
    except NotADirectoryError as error:
        raise BundleError(
            f"{directory} is not a bundle's directory; name the directory that export printed."
        ) from error
    except OSError as error:
        raise BundleError(f"The bundle {directory} cannot be read: {error.strerror or error}.") from error
    return Bundle(name, home, manifest, labels, files)


def is_name(label: str) -> bool:
    """Whether `label` can be a class's name."""
    return bool(label) and label.isprintable() and len(label) <= MAX_NAME


def _labels(content: bytes, manifest: Manifest, file: Path) -> tuple[str, ...]:
    try:
        labels = tuple(content.decode("utf-8").removesuffix("\n").split("\n"))
    except UnicodeDecodeError as error:
        raise BundleError(f"{file} is not UTF-8 text; export the bundle again.") from error
    if wrong := [number for number, label in enumerate(labels, 1) if not is_name(label)]:
        raise BundleError(
            f"{file}, line {wrong[0]}, is no name of 1 to {MAX_NAME} printable characters; export the bundle again."
        )
    if beyond := [c.index for c in manifest.golden if c.index >= len(labels)]:
        raise BundleError(
            f"{file} has {len(labels)} labels, and the golden photo shows class {beyond[0]}; export the bundle again."
        )
    return labels


def _read(file: Path, *, given: bool) -> bytes:
    """The content of a regular file; refuses links, whose target others may write, and pipes, which have no end."""
    if file.is_symlink():
        raise BundleError(f"{file} is a link, and a bundle holds its own files; export it again.")
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{file} is not a file; export the bundle again.")
        refuse_if_others_may_write(file, given=given, opened=status)
        if status.st_size > MAX_FILE_BYTES:
            raise BundleError(f"{file} has {status.st_size} bytes, which no bundle of ours has; export it again.")
        return opened.read()
