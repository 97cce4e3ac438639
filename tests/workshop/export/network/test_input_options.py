"""Tests that the input options of `export` reach the bundle, the folded weights and every picture it is judged on."""

import json
from pathlib import Path

import pytest
import torch
from torchvision.models import get_model

from edge.cli import main
from edge.errors import WeightsError
from edge.photos.decode import read_photo
from edge.settings.schema import ModelSettings
from edge.vision.bundle import load_bundle
from edge.vision.classifier import Classifier
from edge.vision.manifest import MANIFEST, Colour
from edge.vision.preprocess import fill, new_buffer
from edge.workshop.export.network.architectures import ARCHITECTURES
from edge.workshop.export.network.batch_norm_folding import fold_batch_norms
from edge.workshop.export.network.input_options import InputOptions
from edge.workshop.export.quantize.ranges import expected_means
from tests.refusals import one_sentence
from tests.samples import INDEXES
from tests.vision.signed import signed
from tests.workshop.export.usual import ONE_ENGINE

HALF = (0.5, 0.5, 0.5)
NEW_FIELDS = ("interpolation", "crop", "normalization")


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_a_fine_tuned_network_gets_what_it_was_trained_on(colour: Colour) -> None:
    """Compared with torchvision's network with its training's input; the border is the exact mean here."""
    torch.manual_seed(0)
    reference = get_model("resnet18", weights=None).eval()
    mean, std = torch.tensor((0.4, 0.5, 0.6))[None, :, None, None], torch.tensor((0.5, 0.4, 0.3))[None, :, None, None]
    options = InputOptions(mean=(0.4, 0.5, 0.6), std=(0.5, 0.4, 0.3), size=160, resize=192, colour=colour)
    table = options.applied_to(ARCHITECTURES["resnet18"]())
    network = fold_batch_norms(table, reference.state_dict())
    photo = torch.rand(1, 3, 160, 160)
    padded = mean.expand(1, 3, 166, 166).clone()
    padded[:, :, 3:-3, 3:-3] = photo
    fed = (photo - mean) / std
    with torch.inference_mode():
        expected = reference(fed.flip(1) if colour == "BGR" else fed).softmax(1)
        answer = network(padded.permute(0, 2, 3, 1) * 255)
        other = fold_batch_norms(ARCHITECTURES["resnet18"](), reference.state_dict())(padded.permute(0, 2, 3, 1) * 255)
    assert float((answer - expected).abs().max()) < 1e-5
    assert float((other - expected).abs().max()) > 1e-4
    assert table.contract.border_rgb == (102, 128, 153)


def test_what_photos_are_like_does_not_depend_on_the_networks_normalisation() -> None:
    """Mean 0 and std 1 mean that nothing is normalised, not that photos are black."""
    state = get_model("resnet18", weights=None).state_dict()
    plain = InputOptions(mean=(0, 0, 0), std=(1, 1, 1)).applied_to(ARCHITECTURES["resnet18"]())
    assert expected_means(fold_batch_norms(plain, state))["stem"].tolist() == pytest.approx([0.485, 0.456, 0.406])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (InputOptions(mean=(123.68, 116.78, 103.94)), "mean of 123.68 116.78 103.94 is not of pixels in 0..1; divide"),
        (InputOptions(mean=(0.5, float("nan"), 0.5)), "mean of 0.5 nan 0.5 is not"),
        (InputOptions(std=(58, 57, 57)), "standard deviation of 58 57 57 is not of pixels in 0..1"),
        (InputOptions(std=(0.5, 0, 0.5)), "--std from 0.001 to 1"),
        (InputOptions(size=8), "size of 8 does not fit; give --size from 32 to 1024"),
        (InputOptions(size=-224), "size of -224"),
        (InputOptions(size=300), "No 300 pixels can be cut out of a photo resized to 256; give --resize from 300"),
        (InputOptions(resize=100_000), "resized to 100000; give --resize from 224 to 4096"),
    ],
)
def test_nonsense_is_a_sentence(options: InputOptions, said: str) -> None:
    assert said in one_sentence(WeightsError, lambda: options.applied_to(ARCHITECTURES["resnet18"]()))


def test_tensorflows_padding_is_for_sizes_that_32_divides() -> None:
    with pytest.raises(WeightsError, match="pads sizes that 32 divides; give another --size than 240"):
        InputOptions(size=240).applied_to(ARCHITECTURES["efficientnet_lite0"]())


def test_the_bundle_records_the_input_and_is_judged_and_evaluated_with_it(
    bundle_dir: Path, weights_file: Path, photos_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """EfficientNet-Lite0 as if it had been trained on BGR has to give the same answers."""
    state = torch.load(weights_file, weights_only=True)
    state["_conv_stem.weight"] = state["_conv_stem.weight"].flip(1)
    mine, models = tmp_path / "mine.pth", tmp_path / "models"
    torch.save(state, mine)
    network = ["--weights", str(mine), "--arch", "efficientnet_lite0", "--mean", *("0.5",) * 3, "--std", *("0.5",) * 3]
    options = ["--size", "256", "--resize", "288", "--interpolation", "bicubic", "--colour", "BGR"]
    assert main(["export", *network, *options, "--output", str(models), *ONE_ENGINE, "--json"]) == 0
    home = Path(json.loads(capsys.readouterr().out)["bundle"])
    said = json.loads((home / MANIFEST).read_text())["input"]
    assert said == {
        "size": 256, "resize": 288, "interpolation": "bicubic", "crop": "centre",
        "border": [0, 1], "border_rgb": [128, 128, 128], "colour": "RGB", "dtype": "uint8", "layout": "NHWC",
        "normalization": {"mean": [0.5] * 3, "std": [0.5] * 3, "colour": "BGR"},
    }  # fmt: skip
    bundle = load_bundle(home)
    assert bundle.manifest.agreement is not None
    assert (bundle.manifest.agreement.top1_or_tie or 0) >= 95
    assert bundle.manifest.golden[0].index == load_bundle(bundle_dir).manifest.golden[0].index
    classifier = Classifier(bundle, ModelSettings(threads=1))  # which checks the golden photo
    for name in ("coffee", "rocket"):
        (photo,) = photos_dir.glob(f"{name}.*")
        classifier.prepare(read_photo(photo), buffer := classifier.new_input())
        assert classifier.infer(buffer).argmax() == INDEXES[name]
    table = tmp_path / "labels.csv"
    table.write_text(f"file,index\n{photo},{INDEXES['rocket']}\n")
    assert main(["evaluate", str(table), "--model", str(home), "--weights", str(mine), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fp32"]["agreement"] == 100


def test_published_accuracy_is_not_claimed_of_another_input(
    weights_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", "--weights", str(weights_file), "--output", str(tmp_path / "models"), *ONE_ENGINE, "--json"]
    assert main([*arguments, "--interpolation", "bicubic"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["published_top1"] is None
    assert load_bundle(Path(document["bundle"])).manifest.weights.top1 is None


def test_nonsense_at_the_command_line_leaves_nothing(
    weights_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "models"
    arguments = ["export", "--weights", str(weights_file), "--output", str(models)]
    assert main([*arguments, "--mean", "124", "116", "104"]) != 0
    assert "divide --mean by 255" in capsys.readouterr().err
    assert list(models.iterdir()) == []


def test_a_bundle_from_before_there_were_such_fields_is_what_it_was(
    bundle_dir: Path, weights_file: Path, photos_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = signed(bundle_dir, tmp_path, lambda document: [document["input"].pop(field) for field in NEW_FIELDS])
    before, now = load_bundle(old), load_bundle(bundle_dir)
    assert before.manifest.input.interpolation == "bilinear"
    assert before.manifest.input.normalization is None
    (photo,) = photos_dir.glob("rocket.*")
    buffers = []
    for bundle in (before, now):
        buffers.append(new_buffer(bundle.manifest.input))
        fill(buffers[-1], read_photo(photo), bundle.manifest.input)
    assert (buffers[0].pixels == buffers[1].pixels).all()
    table = tmp_path / "labels.csv"
    table.write_text(f"file,index\n{photo},{INDEXES['rocket']}\n")
    assert main(["evaluate", str(table), "--model", str(old), "--weights", str(weights_file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fp32"]["agreement"] == 100
