"""Each network whose real weights are here, folded, and what it is shown first."""

import pytest
import torch

from edge.export.architectures import ARCHITECTURES
from edge.export.exporter import buffer_of, contract_of
from edge.export.fold import FloatNetwork, fold
from edge.export.golden import PHOTO
from edge.export.weights import Weights
from edge.vision.photo import read_photo
from tests.networks import NETWORKS, real_weights


@pytest.fixture(scope="module", params=NETWORKS)
def weights(request: pytest.FixtureRequest) -> Weights:
    return real_weights(request.param)


@pytest.fixture(scope="module")
def network(weights: Weights) -> FloatNetwork:
    return fold(ARCHITECTURES[weights.architecture](), weights.state)


@pytest.fixture(scope="module")
def golden(network: FloatNetwork) -> torch.Tensor:
    return buffer_of(read_photo(PHOTO), contract_of(network.architecture))
