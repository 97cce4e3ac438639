"""Installs a bundle from a directory, an archive or a URL: complete and verified, or not at all."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from edge.errors import BundleError, StateError
from edge.vision.bundle import bundle_name, load_bundle, write_digest
from edge.vision.installed import Installed, set_modes
from edge.vision.manifest import ARCHITECTURE, DIGEST, FILE_NAME, MANIFEST, MAX_FILES
from edge.workshop.export.judge.limits import MIN_CORRELATION
from edge.workshop.fetch import Progress, fetch

MAX_BYTES = 256 << 20  # of an archive, and of what is in it
MAX_MANIFEST_BYTES = 1 << 20
SCHEMES = ("http", "https", "file")
_OPEN: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"BZh": bz2.BZ2File,
}
# The standard library's errors for a damaged archive, or for a file that is no archive.
_DAMAGED = (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, ValueError)


def add_bundle(source: str, sha256: str, installed: Installed, progress: Progress) -> str:
    """Install the bundle that `source` holds; returns its name.

    Args:
        source: a bundle's directory, a tar archive of one (plain, gz, xz or bz2), or an archive's URL.
        sha256: of the archive; "" if none was given, which is refused for a URL.
        installed: where the bundle is installed.
        progress: called during a download.

    Raises:
        BundleError: it is no bundle, the archive has another sha256, or its contents are not valid.
        StateError: the bundles' directory cannot be written.
    """
    staging = installed.staging()
    try:
        home = staging / "unnamed"
        home.mkdir(mode=0o755)
        if Path(source).is_dir():
            _copy(Path(source), home, sha256)
        else:
            with _archive(source, sha256, staging / "archive", progress).open("rb") as archive:
                _unpack(archive, home, source)
        home = home.rename(staging / _described(home, source)[0])
        return _accepted(home, installed, source)
    except OSError as error:
        raise StateError(
            f"{source} cannot be installed in {installed.directory}: {error.strerror or error}."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _accepted(home: Path, installed: Installed, source: str) -> str:
    set_modes(home)
    try:
        bundle = load_bundle(home)
    except BundleError as error:
        raise BundleError(str(error).replace(str(home), source)) from error  # `home` is about to be deleted
    name, agreement = bundle.name, bundle.manifest.agreement
    if agreement is not None and agreement.correlation is not None and agreement.correlation < MIN_CORRELATION:
        raise BundleError(
            f"{name} states that its logits correlate with FP32's by {agreement.correlation:.3f}, and"
            f" {MIN_CORRELATION} is the least; export it again."
        )
    write_digest(home)  # bundles of older versions have none
    set_modes(home)
    installed.accept(home)
    return name


def _copy(source: Path, home: Path, sha256: str) -> None:
    if sha256:
        raise BundleError(f"{source} is a directory; its files have their own sha256s.")
    if not (source / MANIFEST).is_file():
        raise BundleError(f"{source} is no bundle: it lacks {MANIFEST}; name a directory that export made.")
    names = [MANIFEST, *_described(source, str(source))[1]]
    if missing := [name for name in names if not (source / name).is_file()]:
        raise BundleError(f"{source} is no bundle: it lacks {', '.join(missing)}; name a directory that export made.")
    for name in (name for name in (*names, DIGEST) if (source / name).is_file()):
        if (source / name).stat().st_size > MAX_BYTES:
            raise BundleError(f"{name} of {source} has more than {MAX_BYTES >> 20} MB, which no bundle has.")
        shutil.copyfile(source / name, home / name)


def _archive(source: str, sha256: str, copy: Path, progress: Progress) -> Path:
    """A copy of the archive, with the right sha256; the source may change after the check, the copy does not."""
    scheme = urlsplit(source).scheme
    if scheme and scheme not in SCHEMES:
        raise BundleError(f"{source} is of a kind that is not fetched; give {', '.join(SCHEMES)} or a path.")
    if scheme and not sha256:
        raise BundleError("A model is code: give the archive's --sha256 with its URL.")
    try:
        digest = fetch(source if scheme else Path(source).absolute().as_uri(), copy, progress, MAX_BYTES)
    except OSError as error:
        raise BundleError(f"{source} cannot be fetched ({error}); try again, or name another.") from error
    if sha256 and digest != sha256.lower():
        raise BundleError(
            f"{source} has the sha256 {digest[:12]}… instead of {sha256[:12]}…: truncated, or not what was meant."
        )
    return copy


def _unpack(archive: IO[bytes], home: Path, source: str) -> None:
    """Write the archive's files, whose names lead nowhere else, and refuse those that the manifest does not name."""
    start = archive.read(6)
    archive.seek(0)
    opener = next((opener for magic, opener in _OPEN.items() if start.startswith(magic)), None)
    unpacked: set[str] = set()
    try:
        with tarfile.open(fileobj=_Bounded(opener(archive) if opener else archive), mode="r|") as members:
            for member in members:
                if member.isdir() and "/" not in member.name.removeprefix("./"):
                    continue
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                # A few bytes of a sparse file may stand for thousands of gigabytes of zeros.
                plain = member.isreg() and not member.issparse() and re.fullmatch(FILE_NAME, name)
                content = members.extractfile(member) if plain else None
                fits = name not in unpacked and len(unpacked) < MAX_FILES + 2
                if content is None or "/" in folder or folder == ".." or not fits:
                    raise _no_part(source, member.name)
                unpacked.add(name)
                if member.size > MAX_BYTES:
                    raise BundleError(f"{name} of {source} unpacks to more than {MAX_BYTES >> 20} MB.")
                with (home / name).open("xb") as file:
                    shutil.copyfileobj(content, file)
    except _DAMAGED as error:
        raise BundleError(f"{source} is no sound tar archive of a bundle ({error}); make it again.") from error
    if MANIFEST not in unpacked:
        raise BundleError(f"{source} lacks {MANIFEST}; make it again, of a whole bundle.")
    names = {MANIFEST, *_described(home, source)[1]}
    if missing := sorted(names - unpacked):
        raise BundleError(f"{source} lacks {', '.join(missing)}; make it again, of a whole bundle.")
    if others := sorted(unpacked - names - {DIGEST}):
        raise _no_part(source, others[0])


def _no_part(source: str, name: str) -> BundleError:
    return BundleError(f"{source} holds {name:.100}, which is no part of a bundle; make it again.")


class _Bounded(io.RawIOBase):
    """A file that fails beyond MAX_BYTES, because a few kB can unpack to gigabytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left = file, MAX_BYTES

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        # One byte more than is allowed shows that there are more.
        content = self._file.read(min(self._left + 1, size) if size >= 0 else self._left + 1)
        self._left -= len(content)
        if self._left < 0:
            raise tarfile.ReadError(f"it unpacks to more than {MAX_BYTES >> 20} MB")
        return content


def _described(home: Path, source: str) -> tuple[str, list[str]]:
    """The name that the bundle must have, and its files but the manifest; `load_bundle` checks everything else."""
    with (home / MANIFEST).open("rb") as file:
        text = file.read(MAX_MANIFEST_BYTES)
    try:
        document = json.loads(text)
        architecture, precision = document["architecture"], document["precision"]
        # Schema 1 has the sha256 by name, schema 2 a name and a sha256 by role.
        names = [name if isinstance(value, str) else value["name"] for name, value in document["files"].items()]
        fits = re.fullmatch(ARCHITECTURE, architecture) and re.fullmatch(r"[a-z0-9]{1,16}", precision)
        plain = len(names) <= MAX_FILES and all(re.fullmatch(FILE_NAME, name) for name in names)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BundleError(f"The {MANIFEST} of {source} is not a manifest; make the bundle again.") from error
    if not fits:
        raise BundleError(f"The {MANIFEST} of {source} names an unknown architecture; make the bundle again.")
    if not plain:
        raise BundleError(f"The {MANIFEST} of {source} names other files than a bundle has; make the bundle again.")
    return bundle_name(text, architecture, precision), names
