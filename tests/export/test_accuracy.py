"""The promises in figures, on real photos with real weights; every test prints what it measured."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet18_Weights, resnet18

from edge.export.exporter import buffer_of, contract_of
from edge.export.fold import FloatNetwork
from edge.export.gpu import GpuNetwork, RawPixels
from edge.export.ranges import data_free_ranges
from edge.settings import ModelSettings
from edge.vision.bundle import MODEL, load_bundle
from edge.vision.classifier import Classifier
from edge.vision.photo import read_photo

BATCH = 20  # photos in one FP32 inference, to save time

pytestmark = pytest.mark.timeout(600)  # 770 inferences: half a minute on two idle cores


@dataclass(frozen=True)
class Answers:
    """Probabilities of every labelled photo, (photos, classes), and the right classes, (photos,)."""

    int8: np.ndarray
    fp32: np.ndarray
    truth: np.ndarray
    buffers: list[torch.Tensor]


@pytest.fixture(scope="module")
def answers(bundle_dir: Path, network: FloatNetwork, testdata: Path) -> Answers:
    folder = testdata / "photos" / "labelled"
    with (folder / "labels.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    classifier = Classifier(load_bundle(bundle_dir), ModelSettings())
    buffers, int8 = [], []
    for row in rows:
        buffer = classifier.new_input()
        classifier.prepare(read_photo(folder / row["file"]), buffer)
        int8.append(classifier.infer(buffer))
        buffers.append(buffer.tensor)
    with torch.inference_mode():
        fp32 = [network(torch.cat(buffers[i : i + BATCH])).numpy() for i in range(0, len(buffers), BATCH)]
    return Answers(np.stack(int8), np.concatenate(fp32), np.array([int(row["index"]) for row in rows]), buffers)


def test_int8_says_what_fp32_says(answers: Answers, bundle_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quantization = load_bundle(bundle_dir).manifest.quantization
    assert quantization is not None
    int8, fp32 = answers.int8.argmax(1), answers.fp32.argmax(1)
    agreement = 100 * float((int8 == fp32).mean())
    int8_top1, fp32_top1 = (100 * float((answer == answers.truth).mean()) for answer in (int8, fp32))
    everyone = np.arange(len(fp32))
    difference = 100 * float(np.abs(answers.int8[everyone, fp32] - answers.fp32[everyone, fp32]).mean())
    with capsys.disabled():
        print(
            f"\n{len(int8)} labelled photos, INT8 data-free: agrees with FP32 on {agreement:.1f} %;"
            f" top-1 {int8_top1:.1f} % against {fp32_top1:.1f} %; confidence differs by {difference:.1f} points"
        )
    assert len(int8) == 260
    assert agreement >= 97.5
    assert abs(int8_top1 - fp32_top1) <= 1.0
    assert difference < 5


def test_tensorrts_symmetric_int8_says_what_fp32_says(
    network: FloatNetwork, answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    """The graph that a Jetson builds its engine from, computed here; every fourth photo, to save time."""
    explicit = RawPixels(GpuNetwork(network, data_free_ranges(network)), torch.float32)
    photos, fp32 = answers.buffers[::4], answers.fp32[::4]
    with torch.inference_mode():
        int8 = np.concatenate(
            [explicit(torch.cat(photos[i : i + BATCH])).numpy() for i in range(0, len(photos), BATCH)]
        )
    agreement = 100 * float((int8.argmax(1) == fp32.argmax(1)).mean())
    everyone = np.arange(len(fp32))
    difference = 100 * float(np.abs(int8 - fp32)[everyone, fp32.argmax(1)].mean())
    with capsys.disabled():
        print(
            f"\n{len(photos)} photos, symmetric INT8: agrees on {agreement:.1f} %; differs by {difference:.1f} points"
        )
    assert len(photos) == 65
    assert agreement >= 93
    assert difference < 5


def test_the_model_is_small(bundle_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = (bundle_dir / MODEL).stat().st_size
    with capsys.disabled():
        print(f"\nmodel.ts: {size / 1e6:.1f} MB")
    assert size <= 14_000_000


def test_every_convolution_is_quantized(bundle_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Classifier(load_bundle(bundle_dir), ModelSettings())._model
    graph = model.inlined_graph
    kinds = [node.kind() for node in graph.nodes()]
    convolutions = [kind for kind in kinds if "conv" in kind.lower()]
    with capsys.disabled():
        print(f"\nconvolutions: { ({kind: convolutions.count(kind) for kind in sorted(set(convolutions))}) }")
    assert len(convolutions) == 20  # the stem, two in each of 8 blocks, three shortcuts
    assert all(kind.startswith("quantized::conv2d") for kind in convolutions)
    # Nothing float before the head: one way into the integers and one out of them.
    assert kinds.count("aten::dequantize") == 1
    assert kinds.count("aten::_make_per_tensor_quantized_tensor") == 1
    assert "aten::quantize_per_tensor" not in kinds


def test_fp32_here_is_fp32_in_torchvision(
    network: FloatNetwork, weights_file: Path, testdata: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Full-size photos: folding, border, decoder and our resize against torchvision's own steps through PIL."""
    reference = resnet18()
    reference.load_state_dict(torch.load(weights_file, weights_only=True))
    reference.eval()
    transforms = ResNet18_Weights.IMAGENET1K_V1.transforms()
    contract = contract_of(network.architecture)
    photos = sorted((testdata / "photos" / "calibration").iterdir())
    same = 0
    for i in range(0, len(photos), BATCH):
        batch = photos[i : i + BATCH]
        ours = torch.cat([buffer_of(read_photo(photo), contract) for photo in batch])
        theirs = torch.stack([transforms(Image.open(photo).convert("RGB")) for photo in batch])
        with torch.inference_mode():
            same += int((network(ours).argmax(1) == reference(theirs).argmax(1)).sum())
    agreement = 100 * same / len(photos)
    with capsys.disabled():
        print(f"\n{len(photos)} full-size photos: FP32 here agrees with torchvision on {agreement:.1f} %")
    assert len(photos) == 125
    assert agreement >= 98
