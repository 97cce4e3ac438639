"""Tests the promised figures on real photos with real weights; with `-n 0 -s` every test prints what it measured."""

import csv
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet18_Weights, resnet18

from edge.photos.decode import read_photo
from edge.settings.schema import ModelSettings
from edge.vision.bundle import load_bundle
from edge.vision.classifier import Classifier
from edge.vision.torch_compat import load_script
from edge.workshop.export.exporter import buffer_of
from edge.workshop.export.judge.agreement import correlation
from edge.workshop.export.network.architectures import ARCHITECTURES
from edge.workshop.export.network.batch_norm_folding import fold_batch_norms
from edge.workshop.export.network.float_network import FloatConv, FloatNetwork
from edge.workshop.export.quantize.gpu_network import GpuNetwork, RawPixels
from edge.workshop.export.quantize.ranges import data_free_ranges
from edge.workshop.export.weights.state_dict import Weights
from tests.networks import TESTDATA, bundle_of, real_weights
from tests.samples import INDEXES, LABELS

BATCH = 20  # photos in one FP32 inference, to save time
LABELLED = 260  # photos among the test data

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def bundle_dir(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_of(weights.architecture, tmp_path_factory)


def closer(file: Path, folder: Path) -> Iterator[Path]:
    """Two cuts of a picture: with only a few dozen pictures one near tie would exceed the permitted loss of a point."""
    with Image.open(file) as photo:
        width, height = photo.size
        for name, left, top in (("left", 0, height // 10), ("right", width // 10, 0)):
            cut = folder / f"{file.stem}-{name}.png"
            photo.crop((left, top, left + width * 9 // 10, top + height * 9 // 10)).save(cut)
            yield cut


@pytest.fixture(scope="module")
def pictures(request: pytest.FixtureRequest) -> list[tuple[Path, int]]:
    """Pictures with their right classes: the labelled photos, or variants of the four photos."""
    if not TESTDATA:  # without the cat, for which two answers are right
        files = request.getfixturevalue("variants")
        folder = request.getfixturevalue("tmp_path_factory").mktemp("pictures")
        return [
            (picture, INDEXES[file.stem.partition("-")[2]])
            for file in files
            if file.stem.partition("-")[2] in LABELS
            for picture in (file, *closer(file, folder))
        ]
    folder = Path(TESTDATA) / "photos" / "labelled"
    with (folder / "labels.csv").open(newline="") as table:
        return [(folder / row["file"], int(row["index"])) for row in csv.DictReader(table)]


@dataclass(frozen=True)
class Answers:
    """Probabilities of every picture, (pictures, classes), and the right classes, (pictures,)."""

    int8: np.ndarray
    fp32: np.ndarray
    truth: np.ndarray
    buffers: list[torch.Tensor]


@pytest.fixture(scope="module")
def answers(bundle_dir: Path, network: FloatNetwork, pictures: list[tuple[Path, int]]) -> Answers:
    classifier = Classifier(load_bundle(bundle_dir), ModelSettings())
    buffers, int8 = [], []
    for file, _ in pictures:
        buffer = classifier.new_input()
        classifier.prepare(read_photo(file), buffer)
        int8.append(classifier.infer(buffer))
        buffers.append(torch.from_numpy(buffer.pixels))
    with torch.inference_mode():
        fp32 = [network(torch.cat(buffers[i : i + BATCH])).numpy() for i in range(0, len(buffers), BATCH)]
    return Answers(np.stack(int8), np.concatenate(fp32), np.array([index for _, index in pictures]), buffers)


def test_int8_says_what_fp32_says(answers: Answers, bundle_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quantization = load_bundle(bundle_dir).manifest.quantization
    assert quantization is not None
    int8, fp32 = answers.int8.argmax(1), answers.fp32.argmax(1)
    agreement = 100 * float((int8 == fp32).mean())
    int8_top1, fp32_top1 = (100 * float((answer == answers.truth).mean()) for answer in (int8, fp32))
    everyone = np.arange(len(fp32))
    difference = 100 * float(np.abs(answers.int8[everyone, fp32] - answers.fp32[everyone, fp32]).mean())
    both = zip(map(torch.from_numpy, answers.int8), map(torch.from_numpy, answers.fp32), strict=True)
    correlated = statistics.mean(correlation(one, other) for one, other in both)
    with capsys.disabled():
        print(
            f"\n{bundle_dir.name}, {len(int8)} pictures, INT8 data-free: agrees with FP32 on {agreement:.1f} %;"
            f" top-1 {int8_top1:.1f} % against {fp32_top1:.1f} %; confidence differs by {difference:.1f} points;"
            f" logits correlate by {correlated:.4f}"
        )
    if TESTDATA:
        assert len(int8) == LABELLED
        assert agreement >= (97.5 if "lite0" in bundle_dir.name else 98)
    else:
        assert agreement >= 97.5
        assert correlated >= 0.98
        assert int8_top1 >= 85
    assert abs(int8_top1 - fp32_top1) <= 1.0
    assert difference < 5


def test_int8_takes_a_third_of_the_bytes(bundle_dir: Path, weights: Weights) -> None:
    """EfficientNet-Lite0: half, because its kernels are small compared with the graph and each channel's scales."""
    fp32 = sum(tensor.numel() * tensor.element_size() for tensor in weights.state.values())
    assert load_bundle(bundle_dir).model_bytes < fp32 / (2 if "lite0" in bundle_dir.name else 3)


def test_tensorrts_symmetric_int8_answers_like_fp32(
    network: FloatNetwork, answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    """The graph from which a Jetson builds its engine, computed here, on part of the labelled photos to save time."""
    explicit = RawPixels(GpuNetwork(network, data_free_ranges(network)), torch.float32)
    step = 4 if TESTDATA else 1
    photos, fp32 = answers.buffers[::step], answers.fp32[::step]
    with torch.inference_mode():
        int8 = np.concatenate(
            [
                torch.nn.functional.linear(explicit(torch.cat(photos[i : i + BATCH])), *network.head.linear).softmax(1)
                for i in range(0, len(photos), BATCH)
            ]
        )
    agreement = 100 * float((int8.argmax(1) == fp32.argmax(1)).mean())
    everyone = np.arange(len(fp32))
    difference = 100 * float(np.abs(int8 - fp32)[everyone, fp32.argmax(1)].mean())
    with capsys.disabled():
        print(
            f"\n{len(photos)} pictures, symmetric INT8: agrees on {agreement:.1f} %; differs by {difference:.1f} points"
        )
    assert agreement >= 93
    assert difference < 5


def test_the_model_is_small(bundle_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = load_bundle(bundle_dir).model_bytes
    with capsys.disabled():
        print(f"\ntrunk and head: {size / 1e6:.1f} MB")
    assert size <= 14_000_000


def test_every_convolution_is_quantized(
    bundle_dir: Path, network: FloatNetwork, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = load_bundle(bundle_dir)
    Classifier(bundle, ModelSettings())  # sets torch's engine
    graph = load_script(bundle.files["trunk"]).inlined_graph
    kinds = [node.kind() for node in graph.nodes()]
    convolutions = [kind for kind in kinds if "conv" in kind.lower()]
    with capsys.disabled():
        print(f"\nconvolutions: { ({kind: convolutions.count(kind) for kind in sorted(set(convolutions))}) }")
    assert len(convolutions) == sum(isinstance(operation, FloatConv) for operation in network.operations)
    assert all(kind.startswith("quantized::conv2d") for kind in convolutions)
    # Nothing is float before the head: one conversion to integers and one back.
    assert kinds.count("aten::dequantize") == 1
    assert kinds.count("aten::_make_per_tensor_quantized_tensor") == 1
    assert "aten::quantize_per_tensor" not in kinds


def test_fp32_here_is_fp32_in_torchvision(testdata: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On full-size photos: folding, border, decoder and resize against torchvision's own steps with PIL."""
    weights = real_weights("resnet18")
    network = fold_batch_norms(ARCHITECTURES["resnet18"](), weights.state)
    reference = resnet18()
    reference.load_state_dict(weights.state)
    reference.eval()
    transforms = ResNet18_Weights.IMAGENET1K_V1.transforms()
    contract = network.architecture.contract
    photos = sorted((testdata / "photos" / "calibration").iterdir())
    same = 0
    for i in range(0, len(photos), BATCH):
        batch = photos[i : i + BATCH]
        ours = torch.cat([torch.from_numpy(buffer_of(read_photo(photo), contract)) for photo in batch])
        theirs = torch.stack([transforms(Image.open(photo).convert("RGB")) for photo in batch])
        with torch.inference_mode():
            same += int((network(ours).argmax(1) == reference(theirs).argmax(1)).sum())
    agreement = 100 * same / len(photos)
    with capsys.disabled():
        print(f"\n{len(photos)} full-size photos: FP32 here agrees with torchvision on {agreement:.1f} %")
    assert len(photos) == 125
    assert agreement >= 98
