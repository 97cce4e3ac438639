"""Whether the kernels can be compiled here."""

import shutil
from pathlib import Path

import pytest

from edge.kernels.build import build
from tests.workers import made_once


def need_compiler() -> None:
    """Skip the test where there is no C compiler."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler (cc): sudo apt-get install gcc libc6-dev")


def library_for_tests(factory: pytest.TempPathFactory) -> Path:
    """A directory with the library, built once for the whole run; in plain C where this is no ARM64."""
    need_compiler()
    return made_once(factory, "kernels", build)
