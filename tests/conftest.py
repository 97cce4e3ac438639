"""What every test may use: the test data, and one bundle exported from real weights."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import Brokers, brokers_in


@pytest.fixture(scope="session")
def testdata() -> Path:
    """Real weights, photos and video; tests that need them skip where there are none."""
    folder = os.environ.get("EDGE_CLASSIFIER_TESTDATA")
    if not folder:
        pytest.skip("EDGE_CLASSIFIER_TESTDATA is not set: no real weights, photos and video here")
    return Path(folder)


@pytest.fixture(scope="session")
def weights_file(testdata: Path) -> Path:
    """Real FP32 ResNet-18 weights."""
    return testdata / "weights" / "resnet18-pqf.pth"


@pytest.fixture(scope="session")
def bundle_dir(weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for this machine, made once for the whole run; tests that change one copy it first."""
    from edge.export.exporter import export_bundle
    from edge.export.weights import read_weights

    return export_bundle(read_weights(weights_file, "resnet18"), tmp_path_factory.mktemp("models")).directory


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Brokers]:
    """Starts real brokers and subscribers; all end with the test."""
    with brokers_in(tmp_path) as started:
        yield started
