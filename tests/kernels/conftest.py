"""The kernels' library for tests/kernels: in plain C where this is no ARM64."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.kernels import library
from tests.kernels.compiler import library_for_tests


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of the library, which is the one that is used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "DIRECTORY", library_for_tests(tmp_path_factory))
        yield library.DIRECTORY
