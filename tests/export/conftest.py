"""One network from real weights, folded, and what it is shown first."""

from pathlib import Path

import pytest
import torch

from edge.export.architectures import ARCHITECTURES
from edge.export.exporter import buffer_of, contract_of
from edge.export.fold import FloatNetwork, fold
from edge.export.golden import PHOTO
from edge.export.weights import Weights, read_weights
from edge.vision.photo import read_photo


@pytest.fixture(scope="module")
def weights(weights_file: Path) -> Weights:
    return read_weights(weights_file, "resnet18")


@pytest.fixture(scope="module")
def network(weights: Weights) -> FloatNetwork:
    return fold(ARCHITECTURES["resnet18"](), weights.state)


@pytest.fixture(scope="module")
def golden(network: FloatNetwork) -> torch.Tensor:
    return buffer_of(read_photo(PHOTO), contract_of(network.architecture))
