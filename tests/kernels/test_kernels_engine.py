"""Tests that the engine `torchscript` runs a bundle of our own kernels, and refuses one that cannot run here."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edge.board.processor import host_target
from edge.errors import BundleError
from edge.kernels import library
from edge.photos.decode import read_photo
from edge.settings.schema import ModelSettings
from edge.vision.bundle import GOLDEN, HEAD, LABELS, TRUNK, load_bundle
from edge.vision.classifier import Classifier
from edge.vision.engines import torchscript
from edge.vision.head import Head
from edge.vision.manifest import Engine, GoldenClass, Manifest, Origin, Quantization
from edge.vision.torch_compat import load_script, script_bytes
from edge.workshop.export.bundle_writer import write_bundle
from edge.workshop.export.exporter import buffer_of
from edge.workshop.export.judge.views import GOLDEN_PHOTO
from edge.workshop.export.quantize.kernels_network import trunk_bytes
from tests.kernels.small_resnet import FEATURES, pictures, ranges_of, small_resnet

NETWORK = small_resnet(1)


def manifest(kernels: str) -> Manifest:
    """Of a bundle of the small network."""
    return Manifest(
        architecture="small",
        target=host_target(),
        engine=Engine(name="torchscript", options={"kernels": kernels}),
        files={},
        features=FEATURES,
        weights=Origin(source="random", sha256="", license="none"),
        lineage=(),
        quantization=Quantization(ranges="calibrated", photos=4, activations="qint8"),
        input=NETWORK.architecture.contract,
        golden=(GoldenClass(index=0, confidence=0), GoldenClass(index=1, confidence=0)),
    )


@pytest.fixture(scope="module")
def trunk(built: Path) -> bytes:
    return trunk_bytes(NETWORK, ranges_of(NETWORK))


def test_a_bundle_of_our_kernels_runs_whatever_kernels_torch_is_set_to(trunk: bytes) -> None:
    before = torch.backends.quantized.engine
    torchscript.check(manifest("edge"))
    session = torchscript.load(manifest("edge"), {"trunk": trunk}, torch.get_num_threads())
    assert torch.backends.quantized.engine == before
    pixels = [picture[None].numpy() for picture in pictures(3)]
    found = session.infer_many(pixels)
    assert (found.shape, found.dtype) == ((3, FEATURES), np.float32)
    assert np.array_equal(found, load_script(trunk)(pictures(3)).numpy())
    assert np.array_equal(session.infer(pixels[2]), found[2])
    assert f"edge-classifier's own kernels, {library.open_library().instructions}" in torchscript.describe()


def test_it_may_take_over_from_any_other_and_any_other_from_it() -> None:
    torchscript.check_beside(manifest("onednn"), manifest("edge"))
    torchscript.check_beside(manifest("edge"), manifest("onednn"))
    torchscript.check_beside(manifest("edge"), manifest("edge"))
    with pytest.raises(BundleError, match="the whole process's"):
        torchscript.check_beside(manifest("onednn"), manifest("qnnpack"))


def test_without_the_library_the_bundle_is_refused_before_torch_loads_it(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "DIRECTORY", tmp_path)
    with pytest.raises(BundleError, match="kernels of edge-classifier's own"):
        torchscript.check(manifest("edge"))
    torchscript.check(manifest("qnnpack"))  # needs none


def test_data_that_the_kernels_refuse_is_named(trunk: bytes) -> None:
    """The checksum is right, and the data is of another version: made by another release."""
    script = load_script(trunk)
    with torch.no_grad():
        dict(script.named_buffers())["data"][4] = 99
    with pytest.raises(
        BundleError, match=r"cannot run the bundle's model \(KernelsError: The kernels refuse .*version"
    ):
        torchscript.load(manifest("edge"), {"trunk": script_bytes(script)}, torch.get_num_threads())


def test_a_whole_bundle_classifies_and_without_the_library_is_refused_in_a_sentence(
    trunk: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a board that was installed again, without a compiler."""
    weight, bias = NETWORK.head.linear
    head = Head(weight.numpy(), bias.numpy())
    buffer = buffer_of(read_photo(GOLDEN_PHOTO), NETWORK.architecture.contract)
    session = torchscript.load(manifest("edge"), {"trunk": trunk}, torch.get_num_threads())
    answer = head.probabilities(session.infer(buffer))
    golden = tuple(
        GoldenClass(index=int(index), confidence=float(answer[index]) * 100) for index in answer.argsort()[::-1][:3]
    )
    contents = {
        "trunk": (TRUNK, trunk),
        "head": (HEAD, head.to_bytes()),
        "labels": (LABELS, b"ant\nbee\ncow\ndog\nelk\n"),
        "golden": (GOLDEN, GOLDEN_PHOTO.read_bytes()),
    }
    described = manifest("edge").model_copy(update={"golden": golden})
    directory, _ = write_bundle(contents, described, tmp_path / "models", lambda _: None)
    classifier = Classifier(load_bundle(directory), ModelSettings())
    assert (
        classifier.labels[int(classifier.predict(read_photo(GOLDEN_PHOTO)).probabilities.argmax())]
        == (classifier.labels[golden[0].index])
    )
    monkeypatch.setattr(library, "DIRECTORY", tmp_path)
    monkeypatch.setattr(library, "is_arm64", lambda: True)
    with pytest.raises(
        BundleError, match=r"kernels of edge-classifier's own are not built here; run: .*kernels\.build"
    ):
        Classifier(load_bundle(directory), ModelSettings())
