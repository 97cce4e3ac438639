"""The kernels in plain C, on this machine: the right values, at most an error for damaged data, and any threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.kernels.programs import DAMAGED, UNSUPPORTED, Drive, build, noise
from tests.kernels.random_trunks import CONV, HEADER_WORDS, MAX_POOL, ROW_WORDS, Conv, Pool, resnet, trunk

SIDE = 23
SMALL = [
    Conv(8, 3, stride=2),
    Conv(5, 3, padding=1),
    Pool(),
    Conv(7, 1, residual=-1),
    Conv(7, 3, padding=1, residual=3),
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Drive:
    folder = tmp_path_factory.mktemp("plain")
    return Drive(build("drive", folder), folder)


@pytest.mark.parametrize("seed", range(6))
def test_every_value_is_what_trunk_h_defines(plain: Drive, seed: int) -> None:
    data, pictures = trunk(SIDE, SMALL, seed), noise(SIDE, 1, seed)
    assert plain.values(data, pictures).tobytes() == computed(data, pictures[0])


@pytest.mark.parametrize("bottleneck", [False, True])
def test_four_threads_give_what_one_gives(plain: Drive, bottleneck: bool) -> None:
    data = trunk(48, resnet(48, 12, (16, 20), bottleneck=bottleneck), 3)
    assert np.array_equal(plain.values(data, noise(48), threads=4), plain.values(data, noise(48), threads=1))


def test_runs_at_once_share_one_trunk_without_a_race(tmp_path: Path) -> None:
    crowd = Drive(build("crowd", tmp_path, "cc", "-fsanitize=thread", "-g"), tmp_path)
    (tmp_path / "data").write_bytes(trunk(SIDE, SMALL, 1))
    (tmp_path / "pixels").write_bytes(noise(SIDE, 4).tobytes())
    crowd.check_crowd()


@pytest.mark.parametrize(
    ("word", "number", "code", "sentence"),
    [
        (0, 1, DAMAGED, "This is not the data of a trunk."),
        (1, 2, UNSUPPORTED, "The trunk's data has version 2, but these kernels read version 1."),
        (3, 4096, UNSUPPORTED, "The pixels' side is 4096; these kernels serve 1 to 2048."),
        (5, 9, DAMAGED, "The average has 7 channels and a factor of "),
        (8 + 0, 9, UNSUPPORTED, "Operation 0 is of kind 9, which these kernels do not know."),
        (
            8 + 4,
            9,
            UNSUPPORTED,
            "Operation 0 has a window of 9 x 3 and a stride of 2; these kernels serve windows up to 7",
        ),
        (8 + 10, 1 << 20, DAMAGED, "The weights of operation 0 are not inside the trunk's data."),
        (8 + 16 + 1, 5, DAMAGED, "Operation 1 takes operation 5, which it cannot."),
        (8 + 64 + 2, 1, DAMAGED, "Operation 4 adds operation 1, which has another shape."),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(
    plain: Drive, word: int, number: int, code: int, sentence: str
) -> None:
    words = np.frombuffer(trunk(SIDE, SMALL, 0), np.int32).copy()
    words[word] = number
    got, said, _ = plain.outcome(words.tobytes(), noise(SIDE))
    assert (got, said[: len(sentence)]) == (code, sentence)


def test_damaged_data_is_an_error_and_never_an_overrun(tmp_path: Path) -> None:
    """With AddressSanitizer and UndefinedBehaviorSanitizer: every truncation, odd words, random bytes, no memory."""
    wrapped = "-Wl,--wrap=malloc,--wrap=calloc,--wrap=posix_memalign"
    sanitizers = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", wrapped)
    hostile = build("hostile", tmp_path, "cc", *sanitizers)
    operations = [Conv(2, 3, stride=2), Conv(3, 3, padding=1), Pool(), Conv(3, 1, residual=2)]
    (tmp_path / "data").write_bytes(trunk(11, operations, 2))
    Drive(hostile, tmp_path).check_hostile(rounds=20000)


def computed(data: bytes, picture: np.ndarray) -> bytes:
    """All values of a trunk, computed with NumPy from trunk.h's formulas alone."""
    words = np.frombuffer(data, np.int32, len(data) // 4)
    rows = words[HEADER_WORDS : HEADER_WORDS + words[4] * ROW_WORDS].reshape(-1, ROW_WORDS)
    values, zeros, out = [picture.astype(np.int64)], [0], b""
    for row in rows:
        kind, source, other, channels, height, width, stride, padding, zero, low = row[:10].tolist()
        x, taken_zero, factor = values[source + 1], zeros[source + 1], row[13].view(np.float32)
        if kind == CONV:
            count = height * width * x.shape[2]
            weights = np.frombuffer(data, np.int8, channels * count, row[10]).reshape(channels, count)
            bias = np.frombuffer(data, np.int32, channels, row[11])
            scale = np.frombuffer(data, np.float32, channels, row[12])
            windows = windows_of(x - taken_zero, height, width, stride, padding, 0)
            sums = windows.reshape(*windows.shape[:2], count) @ weights.T.astype(np.int64) + bias
            result = sums.astype(np.float32) * scale
            if other >= 0:
                result = result + (values[other + 1] - zeros[other + 1]).astype(np.float32) * factor
            values.append(np.clip(np.rint(result).astype(np.int64) + zero, low, 127))
            zeros.append(zero)
        elif kind == MAX_POOL:
            values.append(windows_of(x, height, width, stride, padding, -128).max((2, 3)))
            zeros.append(taken_zero)
        else:
            return out + ((x - taken_zero).sum((0, 1)).astype(np.float32) * factor).tobytes()
        out += values[-1].astype(np.int8).tobytes()
    raise AssertionError("a trunk without an average")


def windows_of(x: np.ndarray, height: int, width: int, stride: int, padding: int, fill: int) -> np.ndarray:
    """(rows, columns, height, width, channels)."""
    padded = np.pad(x, ((padding, padding), (padding, padding), (0, 0)), constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(0, 1))[::stride, ::stride]
    return np.ascontiguousarray(windows.transpose(0, 1, 3, 4, 2))
