"""Tests the quantization recipe: ranges with and without photos, every weight, and where a bundle can run."""

import dataclasses
import json
import platform
from pathlib import Path

import numpy as np
import pytest
import torch

from edge.board.processor import host_target
from edge.errors import BundleError, EdgeClassifierError, PhotoError, StateError, WeightsError
from edge.photos.folders import photos_in
from edge.settings.schema import ModelSettings
from edge.vision.bundle import load_bundle
from edge.vision.classifier import Classifier
from edge.vision.engines.torch_kernels import host_activations, host_kernels, needs_small_pairs, use_kernels
from edge.vision.manifest import MANIFEST
from edge.vision.torch_compat import known_deprecations, runs_qint8
from edge.workshop.export.exporter import export_bundle
from edge.workshop.export.judge.agreement import golden_classes
from edge.workshop.export.network.architectures import ARCHITECTURES
from edge.workshop.export.network.float_network import FloatNetwork
from edge.workshop.export.network.operations import Head, MaxPool
from edge.workshop.export.quantize.int8_network import QuantizedNetwork
from edge.workshop.export.quantize.ranges import calibrated_ranges, data_free_ranges
from edge.workshop.export.weights.state_dict import Weights
from tests.networks import TESTDATA


def test_data_free_ranges_hold_what_a_photo_makes(network: FloatNetwork, golden: torch.Tensor) -> None:
    ranges = data_free_ranges(network)
    outside, values = 0, 0
    with torch.inference_mode():
        for name, value in network.values(golden):
            if name:
                assert ranges[name].low <= 0 <= ranges[name].high
                outside += int(((value < ranges[name].low) | (value > ranges[name].high)).sum())
                values += value.numel()
    assert outside / values < 1e-3


def test_calibrated_ranges_are_the_least_and_the_greatest(network: FloatNetwork, golden: torch.Tensor) -> None:
    ranges = calibrated_ranges(network, [golden, golden.flip(2)])
    with torch.inference_mode():
        seen = dict(network.values(golden))
    assert all(ranges[name].high >= float(value.max()) for name, value in seen.items() if name)
    assert (ranges["pixels"].low, ranges["pixels"].high) == (0.0, 1.0)
    for pool in (operation for operation in network.operations if isinstance(operation, MaxPool)):
        assert ranges[pool.output] == ranges[pool.input]
    assert set(ranges) >= set(data_free_ranges(network))


def test_every_layer_is_quantized_near_its_float_twin(network: FloatNetwork, golden: torch.Tensor) -> None:
    kernels = host_kernels(host_target())
    small_pairs = needs_small_pairs(kernels)
    use_kernels(kernels)
    with known_deprecations(), torch.inference_mode():
        ranges, activations = data_free_ranges(network), host_activations(host_target())
        features = QuantizedNetwork(network, ranges, kernels, activations, small_pairs=small_pairs)(golden)
        answer = torch.nn.functional.linear(features, *network.head.linear).softmax(1)[0]
        expected = network(golden)[0]
    assert int(answer.argmax()) == int(expected.argmax())
    assert float((answer - expected).abs().max()) < 0.1
    assert float(answer.sum()) == pytest.approx(1, abs=1e-4)


def test_calibration_makes_another_bundle_that_says_so(weights: Weights, variants: list[Path], tmp_path: Path) -> None:
    photos = variants[:8]
    exported = export_bundle(weights, tmp_path / "models", calibration=photos, photos=photos[:4])
    assert exported.manifest.quantization.ranges == "calibrated"
    assert exported.manifest.quantization.photos == 8
    assert exported.agreement is not None
    assert exported.agreement.photos == 52
    assert json.loads((exported.directory / MANIFEST).read_text())["agreement"]["photos"] == 52
    Classifier(load_bundle(exported.directory), ModelSettings())


def test_a_bundle_for_the_other_instruction_set_is_made_or_refused_in_a_sentence(
    weights: Weights, tmp_path: Path
) -> None:
    """Some builds of torch have the kernels of both machines; for others the error names where to export."""
    target = "arm64" if host_target() == "x86_64" else "x86_64"
    refused = ""
    try:
        assert export_bundle(weights, tmp_path / "models", target=target).manifest.target == target
    except BundleError as error:
        refused = str(error)
    if refused:
        assert "export on the device itself" in refused
        assert not list(tmp_path.glob("models/*"))


needs_qnnpack = pytest.mark.skipif(
    "qnnpack" not in torch.backends.quantized.supported_engines, reason="this torch was built without QNNPACK"
)


@needs_qnnpack
def test_an_arm_host_without_xnnpack_gets_a_bundle_for_qnnpack_that_agrees_with_fp32(
    weights: Weights, variants: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QNNPACK's kernels for x86 stand in for ARM's; the torch in use decides which type they take."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    photos = photos_in(Path(TESTDATA) / "photos" / "labelled")[::6][:40] if TESTDATA else variants[:40]
    exported = export_bundle(weights, tmp_path / "models", photos=photos)
    manifest = exported.manifest
    assert (manifest.target, str(manifest.engine)) == ("arm64", "torchscript qnnpack")
    assert manifest.quantization.activations == ("qint8" if runs_qint8() else "quint8")
    assert exported.agreement is not None
    assert exported.agreement.photos == 40
    assert exported.agreement.top1 >= 92.5
    assert exported.agreement.confidence_difference < 2
    Classifier(load_bundle(exported.directory), ModelSettings())  # the golden photo's answer, in the loaded bundle


@needs_qnnpack
def test_a_bundle_for_xnnpack_where_torch_has_none_is_refused_in_a_sentence(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    bundle = load_bundle(export_bundle(weights, tmp_path / "models").directory)
    if runs_qint8():
        pytest.skip("this torch has XNNPACK")
    signed = bundle.manifest.quantization.model_copy(update={"activations": "qint8"})
    elsewhere = dataclasses.replace(bundle, manifest=bundle.manifest.model_copy(update={"quantization": signed}))
    with pytest.raises(BundleError, match=r"needs XNNPACK, and this torch .* has none; export it again here\."):
        Classifier(elsewhere, ModelSettings())


def failed(expected: type[EdgeClassifierError], weights: Weights, models: Path, **options: Path) -> str:
    with pytest.raises(expected) as refused:
        export_bundle(weights, models, **options)  # type: ignore[arg-type]
    assert not models.is_dir() or not list(models.iterdir())  # nothing unfinished is left
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_cannot_be_exported_leaves_nothing_behind(weights: Weights, tmp_path: Path) -> None:
    models = tmp_path / "models"
    (tmp_path / "text.jpg").write_text("no photo")
    assert "is not a photo" in failed(PhotoError, weights, models, golden=tmp_path / "text.jpg")
    head = ARCHITECTURES[weights.architecture]().operations[-1]
    assert isinstance(head, Head)
    weight, bias = f"{head.linear}.weight", f"{head.linear}.bias"
    features = weights.state[weight].shape[1]

    def with_head(**tensors: torch.Tensor) -> Weights:
        return dataclasses.replace(weights, state=weights.state | tensors)

    few = with_head(**{weight: torch.zeros(10, features), bias: torch.zeros(10)})
    assert "have 10 classes" in failed(WeightsError, few, models)
    assert "shapes" in failed(WeightsError, with_head(**{weight: torch.zeros(1000, 7)}), models)
    unsure = with_head(**{weight: torch.zeros(1000, features), bias: torch.zeros(1000)})
    assert "leads by 0.0 points" in failed(BundleError, unsure, models)
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="file is no directory"):
        export_bundle(weights, tmp_path / "file" / "models")


def test_a_golden_photo_has_to_lead_clearly() -> None:
    sure, unsure = np.zeros(5, np.float32), np.zeros(5, np.float32)
    sure[:3] = 0.8, 0.1, 0.05
    unsure[:3] = 0.45, 0.4, 0.1
    assert [c.index for c in golden_classes(sure)] == [0, 1, 2]
    with pytest.raises(BundleError, match=r"leads by 5\.0 points only"):
        golden_classes(unsure)
    with pytest.raises(BundleError):
        golden_classes(np.full(5, np.nan, np.float32))
