"""The kernels for ARM64 on emulated processors: bit for bit what plain C gives on this machine.

scripts/test-kernels runs these. EDGE_CLASSIFIER_KERNELS=full takes every layer of the ResNets in its real size and many
seeds, as scripts/nightly does.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.photos.decode import read_photo
from edge.vision.preprocess import fill, new_buffer
from edge.workshop.export.network.architectures import architecture
from edge.workshop.export.network.batch_norm_folding import fold_batch_norms
from edge.workshop.export.quantize.kernels_network import trunk_data
from edge.workshop.export.quantize.ranges import data_free_ranges
from edge.workshop.export.weights.state_dict import read_weights
from tests.kernels.programs import AUTO, DIRECT, DOTS, OK, PLAIN, WINOGRAD_IN_USE, WINOGRAD_LOADED, Drive, build, noise
from tests.kernels.random_trunks import Conv, Operation, Pool, resnet, trunk

pytestmark = pytest.mark.emulated

FULL = os.environ.get("EDGE_CLASSIFIER_KERNELS") == "full"
# In-order and without dot product; out-of-order and without; with dot product. The methods that each can run differ.
WAYS = [
    ("cortex-a53", WINOGRAD_IN_USE),
    ("cortex-a53", DIRECT),
    ("cortex-a72", AUTO),
    ("cortex-a72", WINOGRAD_LOADED),
    ("neoverse-n1", DOTS),
]
MORE_WAYS = [(cpu, method) for cpu in ("cortex-a53", "cortex-a72") for method in range(DOTS)] + [
    ("neoverse-n1", method) for method in range(DOTS + 1)
]
Trunk = tuple[str, int, list[Operation]]  # name, side, operations


def small_trunks() -> Iterator[Trunk]:
    """Every kind of tile, remainder and window, in few operations."""
    for side in range(3, 22) if FULL else (3, 4, 6, 7, 9, 13, 16):  # Winograd's outputs have this side
        yield f"side {side}", side + 2, [Conv(16, 3), Conv(40, 3, padding=1), Conv(16, 3, padding=1, residual=0)]
    yield (
        "odd windows",
        41,
        [
            Conv(9, 5, stride=2, width=3),
            Conv(33, 5, padding=2),
            Conv(17, 1, stride=3),
            Conv(20, 3, padding=2),
            Conv(20, 7, padding=3, residual=3),
            Pool(2, 2, 0),
            Conv(3, 2, stride=1, width=4),
        ],
    )
    yield "two of the pixels", 33, [Conv(16, 7, stride=2), Conv(16, 7, stride=2, input=-1, residual=0), Pool(3, 1, 1)]
    beyond = [Conv(256, 3, stride=2, input=-1, kind="beyond"), Conv(20, 3, padding=1, kind="beyond")]
    yield "sums beyond the proof", 21, [*beyond, Conv(20, 3, padding=1, residual=1)]
    ties = [Conv(16, 3, kind="ties"), Conv(24, 3, padding=1, kind="ties"), Conv(16, 3, 1, 1, residual=0, kind="ties")]
    yield "ties", 16, [*ties, Conv(16, 1, residual=2, kind="ties"), Conv(16, 3, 2, 1, kind="ties")]
    yield "wide", 18, [Conv(64, 3, stride=2), Conv(160, 3, padding=1), Conv(144, 3, padding=1), Conv(64, 1, stride=2)]
    yield "basic", 75, resnet(75, 16, (24, 48))
    yield "bottleneck", 54, resnet(54, 16, (16, 32), bottleneck=True)


def whole_trunks() -> Iterator[Trunk]:
    """The plain convolutions of the ResNets in their real sizes, one block a stage."""
    yield "resnet18", 230, resnet(230, 64, (64, 128, 256, 512))
    yield "resnet50", 230, resnet(230, 64, (64, 128, 256, 512), bottleneck=True)
    yield "resnet18 of 160", 166, resnet(166, 64, (64, 128, 256, 512))
    yield "resnet18 of 300", 306, resnet(306, 64, (64, 128, 256, 512))


TRUNKS = [(*each, seed) for each in small_trunks() for seed in range(24 if FULL else 2)]
TRUNKS += [(*each, seed) for each in whole_trunks() for seed in range(4)] if FULL else []


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Drive:
    folder = tmp_path_factory.mktemp("here")
    return Drive(build("drive", folder, "cc", "-O3"), folder)


@pytest.fixture(scope="module")
def arm64(tmp_path_factory: pytest.TempPathFactory) -> Drive:
    folder = tmp_path_factory.mktemp("arm64")
    if not shutil.which("qemu-aarch64"):
        pytest.skip("qemu-aarch64 is not installed")
    return Drive(build("drive", folder, "aarch64-linux-gnu-gcc", "-static"), folder)


@pytest.mark.parametrize(("name", "side", "operations", "seed"), TRUNKS, ids=[f"{t[0]}, {t[3]}" for t in TRUNKS])
def test_every_way_gives_the_same_bits(
    plain: Drive, arm64: Drive, name: str, side: int, operations: list[Operation], seed: int
) -> None:
    data, pictures = trunk(side, operations, seed), noise(side, 1 if side > 100 else 2, seed)
    expected = plain.values(data, pictures, PLAIN)
    assert np.mean((expected != 127) & (expected != 128)) > 0.05  # not everything is saturated
    for cpu, method in MORE_WAYS if FULL and seed % 8 == 0 else WAYS:
        threads = 4 if (seed + method) % 2 else 1
        given = arm64.on(cpu).values(data, pictures, method, threads)
        assert np.array_equal(given, expected), (
            f"{cpu}, method {method}, {threads} threads: {differing(given, expected)}"
        )


def differing(given: np.ndarray, expected: np.ndarray) -> str:
    if given.size != expected.size:
        return f"{given.size} values instead of {expected.size}"
    wrong = np.flatnonzero(given != expected)
    return f"{wrong.size} of {given.size} values differ, the first at {wrong[0]}"


@pytest.mark.parametrize("cpu", ["cortex-a72", "neoverse-n1"])
def test_one_and_four_threads_give_the_same_bits(plain: Drive, arm64: Drive, cpu: str) -> None:
    data, pictures = trunk(75, resnet(75, 32, (64, 96)), 5), noise(75, 3, 5)
    expected = plain.values(data, pictures, PLAIN)
    for threads in (1, 2, 4):
        assert np.array_equal(arm64.on(cpu).values(data, pictures, AUTO, threads), expected)


@pytest.mark.timeout(1200)
def test_no_method_leaves_its_memory(plain: Drive, tmp_path: Path) -> None:
    """With AddressSanitizer and UndefinedBehaviorSanitizer, which see the C of all methods, but not the assembly."""
    flags = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    drive = Drive(build("drive", tmp_path, "aarch64-linux-gnu-gcc", *flags), tmp_path)
    # In the real environment, because the sanitizer reads /proc/self/environ, which is the emulator's.
    no_leaks = ("env", "ASAN_OPTIONS=detect_leaks=0")
    for name, side, operations, seed in TRUNKS:
        if seed or side > 100 or (not FULL and name not in ("side 7", "odd windows", "two of the pixels", "ties")):
            continue
        data, pictures = trunk(side, operations, seed), noise(side, 1, seed)
        expected = plain.values(data, pictures, PLAIN)
        for cpu, method in WAYS if FULL else WAYS[2:]:
            watched = drive.on(cpu, "-L", "/usr/aarch64-linux-gnu", before=no_leaks)
            assert np.array_equal(watched.values(data, pictures, method, 2), expected)


@pytest.mark.parametrize("cpu", ["cortex-a72", "neoverse-n1"])
def test_runs_at_once_share_one_trunk(arm64: Drive, tmp_path: Path, cpu: str) -> None:
    crowd = Drive(build("crowd", tmp_path, "aarch64-linux-gnu-gcc", "-static"), tmp_path).on(cpu)
    (tmp_path / "data").write_bytes(trunk(54, resnet(54, 16, (64, 32)), 6))
    (tmp_path / "pixels").write_bytes(noise(54, 3, 6).tobytes())
    crowd.check_crowd()


def test_dot_product_is_refused_where_the_processor_has_none(arm64: Drive) -> None:
    code, sentence, _ = arm64.on("cortex-a72").outcome(trunk(18, [Conv(16, 3)], 0), noise(18), DOTS)
    assert (code != OK, sentence) == (True, f"Method {DOTS} needs a processor with dot product.")


@pytest.fixture(scope="module")
def photographed(testdata: Path) -> tuple[bytes, np.ndarray]:
    """ResNet-18's real trunk, and labelled photos as it takes them."""
    network = fold_batch_norms(
        architecture("resnet18"), read_weights(testdata / "weights" / "resnet18-pqf.pth", "resnet18").state
    )
    contract = network.architecture.contract
    pictures = []
    for photo in sorted((testdata / "photos" / "labelled").glob("*.JPEG"))[: 20 if FULL else 1]:
        buffer = new_buffer(contract)
        fill(buffer, read_photo(photo), contract)
        pictures.append(buffer.pixels)
    return trunk_data(network, data_free_ranges(network)).tobytes(), np.concatenate(pictures)


@pytest.mark.parametrize(
    ("cpu", "method"), MORE_WAYS if FULL else [("cortex-a53", AUTO), ("cortex-a72", AUTO), ("neoverse-n1", AUTO)]
)
def test_real_weights_and_photos_give_the_same_bits(
    plain: Drive, arm64: Drive, photographed: tuple[bytes, np.ndarray], cpu: str, method: int
) -> None:
    expected = plain.values(*photographed, PLAIN)
    assert np.array_equal(arm64.on(cpu).values(*photographed, method), expected)


if FULL:

    def test_clang_gives_the_same_bits(plain: Drive, tmp_path: Path) -> None:
        drive = Drive(build("drive", tmp_path, "clang", "--target=aarch64-linux-gnu", "-static"), tmp_path)
        data, pictures = trunk(75, resnet(75, 32, (64, 96)), 5), noise(75, 1, 5)
        for cpu in ("cortex-a72", "neoverse-n1"):
            assert np.array_equal(drive.on(cpu).values(data, pictures), plain.values(data, pictures, PLAIN))
