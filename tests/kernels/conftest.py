"""The kernels' library for tests/kernels: in plain C where this is no ARM64."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.kernels import library
from edge.kernels.build import build
from tests.workers import made_once


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of the library, which is the one that is used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "DIRECTORY", made_once(tmp_path_factory, "kernels", build))
        yield library.DIRECTORY
