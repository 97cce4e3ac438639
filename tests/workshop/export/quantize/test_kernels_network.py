"""Tests which networks the kernels serve, and what ResNet-18 recognises through them."""

from pathlib import Path

import pytest
import torch

from edge.errors import BundleError
from edge.kernels import library
from edge.photos.decode import read_photo
from edge.vision.torch_compat import load_script
from edge.workshop.export.exporter import buffer_of
from edge.workshop.export.judge.views import GOLDEN_PHOTO
from edge.workshop.export.network.architectures import ARCHITECTURES
from edge.workshop.export.network.batch_norm_folding import fold_batch_norms
from edge.workshop.export.quantize.kernels_network import trunk_bytes, unserved
from edge.workshop.export.quantize.ranges import data_free_ranges
from tests.kernels.compiler import library_for_tests
from tests.kernels.small_resnet import pictures, ranges_of, small_resnet
from tests.networks import real_weights

SERVED = {"resnet18": "", "resnet34": "", "resnet50": ""}
DEPTHWISE = "it has depthwise convolutions"


@pytest.fixture
def kernels(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library, in plain C where this is no ARM64."""
    monkeypatch.setattr(library, "DIRECTORY", library_for_tests(tmp_path_factory))


def test_the_resnets_are_served_and_for_the_others_there_is_a_reason() -> None:
    reasons = {name: unserved(make()) for name, make in ARCHITECTURES.items()}
    assert {name: reason for name, reason in reasons.items() if not reason} == SERVED
    assert {reason for reason in reasons.values() if reason} <= {
        DEPTHWISE,
        "it has the activation hardswish",
        "it has the activation silu",
    }


def test_a_network_that_is_not_served_is_refused_in_a_sentence(kernels: None) -> None:
    network = small_resnet(1)
    network.architecture = ARCHITECTURES["mobilenet_v2"]()
    with pytest.raises(BundleError, match=rf"do not serve mobilenet_v2: {DEPTHWISE}; torch's engines do"):
        trunk_bytes(network, {})


def test_a_channel_without_weights_gives_its_bias(kernels: None) -> None:
    """Pruned weights have such channels; their step is so small that the bias would not fit into 32 bits."""
    network = small_resnet(3)
    dead = network.convolutions[-1]
    dead.weight[4:8] = 0
    dead.bias[4:8] = torch.tensor([2.0, -2.0, 0.0, 1e-3])
    pixels = pictures(2)
    with torch.inference_mode():
        found = load_script(trunk_bytes(network, ranges_of(network)))(pixels)
        expected = torch.cat([dict(network.values(one))["layer4.0"].mean((2, 3)) for one in pixels.split(1)])
    assert float((found - expected)[:, 4:8].abs().max()) < 0.05 * float(expected.max())


def test_resnet18_recognises_photos_through_the_kernels(kernels: None, testdata: Path, photos_dir: Path) -> None:
    network = fold_batch_norms(ARCHITECTURES["resnet18"](), real_weights("resnet18").state)
    script = load_script(trunk_bytes(network, data_free_ranges(network)))
    for photo in (GOLDEN_PHOTO, photos_dir / "rocket.jpg"):
        buffer = torch.from_numpy(buffer_of(read_photo(photo), network.architecture.contract))
        with torch.inference_mode():
            probabilities, expected = network.head.logits(script(buffer)).softmax(1)[0], network(buffer)[0]
        assert int(probabilities.argmax()) == int(expected.argmax()), photo
        assert float((probabilities - expected).abs().max()) < 0.15, photo
