"""Tests the trunk for ONNX Runtime: its answers against FP32's, and that ONNX Runtime computes it in integers."""

import collections
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edge.photos.decode import read_photo
from edge.workshop.export.exporter import buffer_of
from edge.workshop.export.network.architectures import ARCHITECTURES
from edge.workshop.export.network.batch_norm_folding import fold_batch_norms
from edge.workshop.export.network.float_network import FloatNetwork
from edge.workshop.export.quantize.onnx_network import trunk_bytes
from edge.workshop.export.quantize.ranges import data_free_ranges
from tests.networks import real_weights
from tests.workshop.export.trained_like import trained_like

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

SEEN, JUDGED = 12, 8  # photos that the batch norms of random weights saw, and others that are compared
# What ONNX Runtime may compute in floats: averages, small layers behind them, and what connects them to the integers.
ISLANDS = {"DequantizeLinear", "GlobalAveragePool", "Flatten", "Gemm", "FusedGemm", "QuickGelu", "Sigmoid",
           "HardSigmoid", "Unsqueeze", "QuantizeLinear", "Mul", "HardSwish", "Transpose", "ReduceMean"}  # fmt: skip


def session(trunk: bytes, optimized: Path | None = None) -> "runtime.InferenceSession":
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return runtime.InferenceSession(trunk, options, providers=["CPUExecutionProvider"])


def answer(loaded: "runtime.InferenceSession", pixels: torch.Tensor) -> "npt.NDArray[np.float32]":
    """(photos, features)."""
    features: npt.NDArray[np.float32] = loaded.run(None, {"pixels": pixels.numpy()})[0]
    return features


def features(network: FloatNetwork, pixels: torch.Tensor) -> torch.Tensor:
    """What FP32's last layer takes, (1, features)."""
    with torch.inference_mode():
        values = dict(network.values(pixels))
        return network.head.features(values[network.head.table.input].mean((2, 3)))


def correlation(ours: "npt.NDArray[np.float32]", theirs: torch.Tensor) -> float:
    return float(np.corrcoef(ours.ravel(), theirs.numpy().ravel())[0, 1])


def trunk_of(network: FloatNetwork, activations: str = "quint8", *, small_pairs: bool = False) -> bytes:
    return trunk_bytes(network, data_free_ranges(network), activations, small_pairs=small_pairs)  # type: ignore[arg-type]


@pytest.mark.parametrize("activations", ["quint8", "qint8"])
def test_its_features_are_near_those_of_fp32(network: FloatNetwork, golden: torch.Tensor, activations: str) -> None:
    found = answer(session(trunk_of(network, activations)), golden)
    expected = features(network, golden)
    assert found.dtype == np.float32
    assert found.shape == tuple(expected.shape)
    assert correlation(found, expected) > 0.99
    weight = network.head.linear.weight
    logits, expected_logits = (weight @ value[0] for value in (torch.from_numpy(found), expected))
    assert int(logits.argmax()) == int(expected_logits.argmax())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_is_computed_in_integers_and_follows_fp32(
    name: str, variants: list[Path], tmp_path: Path
) -> None:
    table = ARCHITECTURES[name]()
    made = real_weights(name) if name == "efficientnet_lite0" else trained_like(name, variants[:SEEN])
    network = fold_batch_norms(table, made.state)
    trunk = trunk_of(network)
    onnx.checker.check_model(onnx.load_from_string(trunk), full_check=True)
    loaded, (weight, _) = session(trunk, tmp_path / "optimized.onnx"), network.head.linear
    photos = [
        torch.from_numpy(buffer_of(read_photo(photo), table.contract)) for photo in variants[SEEN : SEEN + JUDGED]
    ]
    found = [weight.numpy() @ answer(loaded, photo)[0] for photo in photos]
    expected = [weight @ features(network, photo)[0] for photo in photos]
    # Random weights and variants of four photos are little data for statistics; INT8 TorchScript reaches 0.968 too.
    assert np.mean([correlation(*pair) for pair in zip(found, expected, strict=True)]) > 0.95
    kinds = collections.Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert kinds["QLinearConv"] == len(network.convolutions)
    assert kinds["Conv"] == kinds["FusedConv"] == kinds["Add"] == 0
    residuals = sum(bool(conv.table.residual) for conv in network.convolutions)
    assert kinds["QLinearAdd"] == residuals
    if all(conv.gate is None and conv.table.activation in ("", "relu", "relu6") for conv in network.convolutions):
        assert kinds["DequantizeLinear"] == 1  # the features alone
        assert kinds["QuantizeLinear"] == 0
    else:
        integers = {kind for kind in kinds if kind.startswith(("QLinear", "Nhwc"))}
        assert kinds.keys() - integers <= ISLANDS


def test_a_batch_gets_the_answers_of_its_photos(network: FloatNetwork, golden: torch.Tensor) -> None:
    trunk = session(trunk_of(network))
    photos = [golden, golden.flip(2), 255 - golden]
    single = np.concatenate([answer(trunk, photo) for photo in photos])
    together = answer(trunk, torch.cat(photos))
    assert np.abs(together - single).max() <= 1e-6 * np.abs(single).max()


def test_a_channel_whose_weights_vanished_keeps_its_bias(network: FloatNetwork, golden: torch.Tensor) -> None:
    """Its bias divided by the step of its weights would not fit into the integer that ONNX has for it."""
    *_, last = network.convolutions
    weight, bias = last.weight.clone(), last.bias.clone()
    last.weight[:2], last.bias[:2] = 0, torch.tensor([0.5, 0.25])
    last.weight[1, 0] = 1e-15
    try:
        found = answer(session(trunk_of(network)), golden)
        expected = features(network, golden)
    finally:
        last.weight[:], last.bias[:] = weight, bias
    assert found[0, :2] == pytest.approx(expected[0, :2].numpy(), abs=0.05)


def test_the_file_names_no_other_file_and_no_foreign_operator(network: FloatNetwork) -> None:
    model = onnx.load_from_string(trunk_of(network, "qint8"))
    assert not any(onnx.external_data_helper.uses_external_data(tensor) for tensor in model.graph.initializer)
    assert {node.domain for node in model.graph.node} == {""}
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert model.ir_version <= 8
