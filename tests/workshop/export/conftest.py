"""Fixtures for tests/workshop/export: each network with real weights, folded, and the golden photo as its input."""

import pytest
import torch

from edge.photos.decode import read_photo
from edge.workshop.export.exporter import buffer_of
from edge.workshop.export.judge.views import GOLDEN_PHOTO
from edge.workshop.export.network.architectures import ARCHITECTURES
from edge.workshop.export.network.batch_norm_folding import fold_batch_norms
from edge.workshop.export.network.float_network import FloatNetwork
from edge.workshop.export.weights.state_dict import Weights
from tests.networks import NETWORKS, real_weights


@pytest.fixture(scope="module", params=NETWORKS)
def weights(request: pytest.FixtureRequest) -> Weights:
    return real_weights(request.param)


@pytest.fixture(scope="module")
def network(weights: Weights) -> FloatNetwork:
    return fold_batch_norms(ARCHITECTURES[weights.architecture](), weights.state)


@pytest.fixture(scope="module")
def golden(network: FloatNetwork) -> torch.Tensor:
    return torch.from_numpy(buffer_of(read_photo(GOLDEN_PHOTO), network.architecture.contract))
