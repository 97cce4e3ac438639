"""Fixtures for tests/workshop/export: each network with real weights, folded, and the golden photo as its input."""

import pytest
import torch

from edge.photos.decode import read_photo
from edge.workshop.export.architectures import ARCHITECTURES
from edge.workshop.export.exporter import buffer_of, contract_of
from edge.workshop.export.fold import fold
from edge.workshop.export.folded import FloatNetwork
from edge.workshop.export.golden import PHOTO
from edge.workshop.export.weights import Weights
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
