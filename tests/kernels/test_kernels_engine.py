"""Tests that the engine `torchscript` runs a bundle of our own kernels, and refuses one that cannot run here."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edge.board.processor import host_target
from edge.errors import BundleError
from edge.kernels import library
from edge.vision.engines import torchscript
from edge.vision.manifest import Engine, GoldenClass, Manifest, Origin, Quantization
from edge.vision.torch_compat import load_script, script_bytes
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
