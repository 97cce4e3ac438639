"""Tests weights for x86 without VNNI, which adds two products in 16 bits: no pair overflows, and all kernels agree."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from edge.board import processor
from edge.board.processor import host_target
from edge.errors import BundleError
from edge.settings.schema import ModelSettings
from edge.vision.bundle import load_bundle
from edge.vision.classifier import Classifier
from edge.workshop.export.judge.views import GOLDEN_PHOTO
from edge.workshop.export.quantize.rounding import rounded, weight_scales
from tests.networks import NETWORKS, TESTDATA, file_of
from tests.samples import LABELS
from tests.vision.signed import signed
from tests.workshop.export.usual import ONE_ENGINE

on_x86 = pytest.mark.skipif(
    host_target() != "x86_64" or "onednn" not in torch.backends.quantized.supported_engines,
    reason="only oneDNN on x86 adds two products in 16 bits",
)

SHAPES = {"stem": (16, 3, 3, 3), "window": (24, 64, 3, 3), "point": (64, 96, 1, 1), "depthwise": (32, 1, 5, 5)}

# The worst case: every activation is 255, and neighbouring weights are large and of one sign. Compares the answer of
# torch's kernels with exact integers; the result is the largest difference, in products of ones.
WORST = """\
import json, sys
import torch
from edge.workshop.export.quantize.rounding import rounded, weight_scales
from edge.vision.torch_compat import known_deprecations, prepack, quantized_weight

torch.backends.quantized.engine = "onednn"
off = {}
for name, (out, channels, height, width) in json.loads(sys.argv[1]).items():
    torch.manual_seed(1)
    groups = out if channels == 1 else 1
    weights = torch.rand(out, channels, height, width) + 0.5
    weights[out // 2 :] *= -1
    for small_pairs in (False, True):
        scales = weight_scales(weights, small_pairs=small_pairs)
        quantized = quantized_weight(rounded(weights, scales, pixels=channels == 3), scales)
        pixels = torch.full((1, channels * groups, 8, 8), 255, dtype=torch.uint8).contiguous(
            memory_format=torch.channels_last
        )
        exact = torch.nn.functional.conv2d(pixels.double(), quantized.dequantize().double(), groups=groups)
        scale = float(exact.abs().max()) / 127
        with known_deprecations(), torch.inference_mode():
            packed = prepack(quantized, torch.zeros(out), (1, 1), 0, groups)
            inputs = torch._make_per_tensor_quantized_tensor(pixels, 1.0, 0)
            answer = torch.ops.quantized.conv2d(inputs, packed, scale, 128).dequantize()
        off[f"{name} {small_pairs}"] = float((answer - exact).abs().max()) / scale
print(json.dumps(off))
"""


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_no_two_neighbouring_weights_overflow_16_bits(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weights = torch.cat([torch.randn(shape), torch.randn(shape).abs(), torch.ones(shape)])
    whole = rounded(weights, weight_scales(weights, small_pairs=True), pixels=False).int()
    rows = whole.permute(0, 2, 3, 1).flatten(1)
    sums = 255 * (rows[:, 1:] + rows[:, :-1])
    assert int(sums.max()) <= 32767
    assert int(sums.min()) >= -32768
    assert int(whole.abs().amax()) > 60  # and it costs a bit at most
    full = rounded(weights, weight_scales(weights, small_pairs=False), pixels=False).int()
    assert (full.abs().amax((1, 2, 3)) == 127).all()


@on_x86
def test_kernels_of_a_processor_without_vnni_are_exact() -> None:
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    ran = subprocess.run(
        [sys.executable, "-c", WORST, json.dumps(SHAPES)], env=environment, capture_output=True, text=True, check=True
    )
    off = json.loads(ran.stdout)
    assert {name: steps for name, steps in off.items() if name.endswith("True") and steps > 0.51} == {}
    assert off["window False"] > 10  # without the limit they do saturate


# The environment limits the kernels; what the processor can do is read from a file of the kernel's.
WITHOUT_VNNI = """\
import sys
import edge.board.processor

edge.board.processor.cpu_flags = lambda: frozenset({"avx2"})
from edge.cli import main

sys.exit(main(sys.argv[1:]))
"""


@on_x86
@pytest.mark.parametrize("network", NETWORKS)
def test_a_processor_without_vnni_exports_a_bundle_that_agrees_and_runs(
    network: str, variants: list[Path], tmp_path: Path
) -> None:
    photos = [picture for picture in variants if picture.stem.partition("-")[2] in LABELS]
    if TESTDATA:
        photos = sorted((Path(TESTDATA) / "photos" / "labelled").glob("*.JPEG"))[::6]
    (tmp_path / "photos").mkdir()
    for photo in photos:
        (tmp_path / "photos" / photo.name).symlink_to(photo)

    def edge_classifier(*arguments: str) -> Any:
        environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
        command = [sys.executable, "-c", WITHOUT_VNNI, *arguments, "--json"]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    options = (
        "--weights",
        str(file_of(network)),
        "--photos",
        str(tmp_path / "photos"),
        "--output",
        str(tmp_path / "made"),
    )
    report = edge_classifier("export", *options, "--output", str(tmp_path / "made"), *ONE_ENGINE)
    assert report["agreement"]["photos"] == len(photos)
    assert report["agreement"]["top1"] >= 95  # two photos may differ; benchmarks/agreement.py has them all
    assert report["agreement"]["correlation"] >= 0.99
    assert load_bundle(Path(report["bundle"])).manifest.quantization.small_pairs  # type: ignore[union-attr]
    assert edge_classifier("classify", str(GOLDEN_PHOTO), "--model", report["bundle"])["top"][0]["label"]


@on_x86
def test_a_bundle_of_full_range_is_refused_without_vnni(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle_dir: Path
) -> None:
    monkeypatch.setattr(processor, "cpu_flags", lambda: frozenset({"avx2"}))
    full = signed(bundle_dir, tmp_path, lambda document: document["quantization"].update(small_pairs=False))
    with pytest.raises(BundleError, match="was made for a CPU with VNNI, which this one lacks; export it again here"):
        Classifier(load_bundle(full), ModelSettings())
    small = signed(bundle_dir, tmp_path, lambda document: document["quantization"].update(small_pairs=True))
    Classifier(load_bundle(small), ModelSettings())
