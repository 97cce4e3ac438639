"""Tests that folding is exact: batch norms, mean and standard deviation go into the convolutions."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchvision.models import get_model, resnet18, resnet34, resnet50

from edge.errors import WeightsError
from edge.photos.decode import read_photo
from edge.vision.preprocess import fill, new_buffer
from edge.workshop.export.judge.views import GOLDEN_PHOTO
from edge.workshop.export.network.architectures import ARCHITECTURES, architecture
from edge.workshop.export.network.batch_norm_folding import StateDict, fold_batch_norms
from edge.workshop.export.network.float_network import FloatConv, FloatHead, FloatNetwork
from edge.workshop.export.network.operations import PIXELS, Architecture
from edge.workshop.export.weights.download import packaged_weights
from edge.workshop.export.weights.state_dict import catalogue as known_weights
from edge.workshop.export.weights.state_dict import read_weights
from tests.refusals import one_sentence


@pytest.fixture(scope="module")
def state(testdata: Path) -> StateDict:
    return read_weights(testdata / "weights" / "resnet18-pqf.pth", "resnet18").state


def logits(network: FloatNetwork, pixels: torch.Tensor) -> torch.Tensor:
    """The input of the softmax, (1, classes)."""
    values = dict(network.values(pixels))
    head = network.operations[-1]
    assert isinstance(head, FloatHead)
    return head.logits(values[head.table.input].mean((2, 3)))


def golden_buffer(table: Architecture) -> torch.Tensor:
    contract = table.contract
    buffer = new_buffer(contract)
    fill(buffer, read_photo(GOLDEN_PHOTO), contract)
    return torch.from_numpy(buffer.pixels)


def test_the_stem_is_exact_to_1e_5(state: StateDict) -> None:
    """Without a border nothing is rounded: float pixels go through both networks."""
    table = ARCHITECTURES["resnet18"]()
    network = fold_batch_norms(table, state)
    stem = network.operations[0]
    assert isinstance(stem, FloatConv)
    assert stem.table.input == PIXELS
    pixels = golden_buffer(table).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(value)[None, :, None, None] for value in (table.mean, table.std))
    reference = resnet18().eval()
    reference.load_state_dict(state)
    reference.conv1.padding = (0, 0)
    with torch.inference_mode():
        expected = reference.bn1(reference.conv1((pixels - mean) / std))
        folded = torch.nn.functional.conv2d(pixels, stem.weight, stem.bias, stride=2)
    assert float((folded - expected).abs().max()) < 1e-5


def test_the_network_is_within_0_02_logits_of_torchvision(state: StateDict, capsys: pytest.CaptureFixture[str]) -> None:
    """The difference is the border's colour, which is the mean rounded to a whole pixel value."""
    table = ARCHITECTURES["resnet18"]()
    buffer = golden_buffer(table)
    reference = resnet18().eval()
    reference.load_state_dict(state)
    mean, std = (torch.tensor(value)[None, :, None, None] for value in (table.mean, table.std))
    photo = (buffer[:, 3:-3, 3:-3].permute(0, 3, 1, 2).float() / 255 - mean) / std
    with torch.inference_mode():
        difference = float((logits(fold_batch_norms(table, state), buffer) - reference(photo)).abs().max())
    with capsys.disabled():
        print(f"\nfolding and the rounded border: logits differ by at most {difference:.4f}")
    assert difference < 0.02


@pytest.mark.parametrize("name", sorted(ARCHITECTURES.keys() - {"efficientnet_lite0"}))
def test_every_network_of_torchvisions_in_the_table_is_torchvisions(name: str) -> None:
    """With random weights and statistics, so that every number matters; here the border is the exact mean."""
    torch.manual_seed(0)
    reference = get_model(name, weights=None).eval()
    for module in reference.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    table = ARCHITECTURES[name]()
    network = fold_batch_norms(table, reference.state_dict())
    mean, std = (torch.tensor(value)[None, :, None, None] for value in (table.mean, table.std))
    photo = torch.rand(1, 3, 224, 224)
    border = table.border[0]
    padded = mean.expand(1, 3, 224 + 2 * border, 224 + 2 * border).clone()
    padded[:, :, border:-border, border:-border] = photo
    with torch.inference_mode():
        expected = reference((photo - mean) / std).softmax(1)
        answer = network(padded.permute(0, 2, 3, 1) * 255)
    assert float((answer - expected).abs().max()) < 1e-5


def test_efficientnet_lite0_is_the_packages_own() -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="efficientnet-lite-pytorch is not installed")
    from efficientnet_lite_pytorch import EfficientNet

    entry = next(entry for entry in known_weights() if entry.package)
    weights = packaged_weights(entry)
    reference = EfficientNet.from_name("efficientnet-lite0").eval()
    reference.load_state_dict(weights.state)
    table = ARCHITECTURES["efficientnet_lite0"]()
    buffer = golden_buffer(table)
    photo = (buffer[:, :224, :224].permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        expected = reference(photo).softmax(1)
        answer = fold_batch_norms(table, weights.state)(buffer)
    assert float((answer - expected).abs().max()) < 1e-4


def refusal(name: str, state: StateDict) -> str:
    return one_sentence(WeightsError, lambda: fold_batch_norms(ARCHITECTURES[name](), state))


def test_weights_of_another_network_are_refused() -> None:
    """A ResNet-34 has every key of a ResNet-18, but would give useless answers as one."""
    deeper = resnet34().state_dict()
    shallower = resnet18().state_dict()
    assert shallower.keys() < deeper.keys()
    assert "which a resnet18 does not have; name the right --architecture" in refusal("resnet18", deeper)
    assert "lack " in refusal("resnet34", shallower)
    assert "does not have" in refusal("efficientnet_lite0", shallower)
    assert "does not have" in refusal("resnet18", resnet50().state_dict())


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("layer1.0.conv1.weight", (64, 32, 3, 3)),
        ("layer1.0.conv1.weight", (64, 64, 5, 5)),
        ("conv1.weight", (64, 1, 7, 7)),
        ("bn1.weight", (32,)),
        ("bn1.weight", ()),
        ("fc.weight", (1000, 100)),
        ("fc.bias", (7,)),
    ],
)
def test_wrong_shapes_are_refused(key: str, shape: tuple[int, ...]) -> None:
    assert "shapes" in refusal("resnet18", {**resnet18().state_dict(), key: torch.ones(shape)})


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("fc.weight", lambda v: v.double() * 1e300, "fc.weight is not finite, or beyond the 1e+15"),
        ("fc.bias", lambda v: v.double() + 1e300, "fc.bias is not finite"),
        ("layer1.0.conv1.weight", lambda v: v.double() * 1e300, "layer1.0.conv1.weight folded is not finite"),
        ("layer1.0.bn1.bias", lambda v: v.double() + 1e300, "layer1.0.bn1 folded is not finite"),
        ("layer1.0.bn1.running_var", lambda v: v - 2, "layer1.0.bn1.running_var has a negative variance"),
        ("bn1.weight", lambda v: v * 1e20, "bn1 folded is not finite, or beyond"),  # the ranges use its square
        ("layer1.0.conv2.weight", lambda v: v * 1e15, "what layer1.0 gives is not finite"),
    ],
)
def test_weights_that_float32_cannot_compute_with_are_refused_by_name(
    key: str, change: Callable[[torch.Tensor], torch.Tensor], said: str
) -> None:
    torch.manual_seed(0)
    state = resnet18().state_dict()
    state[key] = change(state[key])
    assert said in refusal("resnet18", state)


def test_a_missing_key_is_named() -> None:
    state = resnet18().state_dict()
    del state["layer3.1.bn2.running_var"]
    assert re.search(r"lack 'layer3\.1\.bn2\.running_var', so they are not a resnet18", refusal("resnet18", state))


def test_an_architecture_that_does_not_exist_is_refused() -> None:
    from edge.errors import BundleError

    with pytest.raises(BundleError, match="no architecture vgg; choose from resnet18"):
        architecture("vgg")
