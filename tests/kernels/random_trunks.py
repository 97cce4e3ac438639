"""Trunks with random weights in the layout of edge/kernels/trunk.h, for every shape that a kernel may meet."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

MAGIC, VERSION, HEADER_WORDS, ROW_WORDS = 0x4B525445, 1, 8, 16
CONV, MAX_POOL, AVERAGE = 1, 2, 3
PIXELS = NONE = -1


@dataclass(frozen=True)
class Conv:
    """A convolution with random weights; `input` and `residual` are the numbers of earlier operations."""

    channels: int
    size: int
    stride: int = 1
    padding: int = 0
    input: int | None = None  # None: the operation before; -1: the pixels
    residual: int = NONE
    width: int | None = None  # of the kernel, if it is not square
    # "beyond": sums of one sign, too large for Winograd's proof; "ties": half of the results lie between two integers
    kind: str = ""


@dataclass(frozen=True)
class Pool:
    """A max pool."""

    size: int = 3
    stride: int = 2
    padding: int = 1


Operation = Conv | Pool


@dataclass
class _Value:
    height: int
    width: int
    channels: int
    zero: int


def trunk(side: int, operations: list[Operation], seed: int) -> bytes:
    """The data of a trunk of `operations` and an average.

    Weights are uniform, extreme, normal or all of one sign, zero points and scales anything, so that many sums saturate
    and some of the layers have no proof for Winograd.
    """
    random = np.random.default_rng(seed)
    values: list[_Value] = []
    rows: list[list[int]] = []
    arrays: list[bytes] = []
    at = 4 * (HEADER_WORDS + ROW_WORDS * (len(operations) + 1))

    def put(array: np.ndarray) -> int:
        nonlocal at
        raw = array.tobytes()
        arrays.append(raw + bytes(-len(raw) % 4))
        here, at = at, at + len(arrays[-1])
        return here

    for number, operation in enumerate(operations):
        source = number - 1 if isinstance(operation, Pool) or operation.input is None else operation.input
        taken = _Value(side, side, 3, -128) if source == PIXELS else values[source]
        height, width = operation.size, getattr(operation, "width", None) or operation.size
        here = dataclasses.replace(
            taken,
            height=(taken.height + 2 * operation.padding - height) // operation.stride + 1,
            width=(taken.width + 2 * operation.padding - width) // operation.stride + 1,
        )
        row = [CONV, source, NONE, 0, height, width, operation.stride, operation.padding]
        if isinstance(operation, Pool):
            row = [MAX_POOL, *row[1:], *[0] * 8]
        else:
            taps = height * width * taken.channels
            weights, bias, scale = _filters(random, operation, taps)
            here.channels, here.zero = operation.channels, int(random.choice([-128, random.integers(-128, 128)]))
            if operation.kind == "beyond":
                here.zero = -128
            factor = float_bits(random.choice([0.5, random.uniform(0.2, 1.5)])) if operation.residual != NONE else 0
            low = here.zero if random.random() < 0.5 else -128
            row[2:4] = [operation.residual, operation.channels]
            row += [here.zero, low, put(weights), put(bias), put(scale), factor, 0, 0]
        values.append(here)
        rows.append(row)
    last = values[-1]
    factor = float_bits(0.02 / (last.height * last.width))
    rows.append([AVERAGE, len(values) - 1, NONE, *[0] * 10, factor, 0, 0])
    header = [MAGIC, VERSION, at, side, len(rows), last.channels, 4 * HEADER_WORDS, ROW_WORDS]
    return np.array([header, *np.reshape(rows, (-1, HEADER_WORDS))], np.int32).tobytes() + b"".join(arrays)


def float_bits(number: float) -> int:
    """The bits of `number` as float32, as a word of the data."""
    return int(np.float32(number).view(np.int32))


def _filters(random: np.random.Generator, conv: Conv, taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (channels, taps), biases and scales."""
    shape = (conv.channels, taps)
    bias = random.integers(-50000, 50000, conv.channels)
    if conv.kind == "beyond":
        weights = np.full(shape, 127)
        low, high = (1.6, 2.2) if conv.input == PIXELS else (0.4, 0.9)  # pixels are 127 on average, their results 230
        scale = random.uniform(low, high, conv.channels) / (taps * 127)
    elif conv.kind == "ties":
        weights, scale = random.integers(-1, 2, shape), np.full(conv.channels, 0.5)
        bias = random.integers(-100, 100, conv.channels)
    else:
        weights = _weights(random, shape)
        spread = 74 * np.sqrt(taps) * (np.abs(weights).mean() + 1) + 100 * np.abs(weights.sum(1))  # of the sums
        scale = random.uniform(0.3, 3, conv.channels) * random.choice([40, 150]) / spread
    return weights.astype(np.int8), bias.astype(np.int32), scale.astype(np.float32)


def _weights(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    kind = random.integers(4)
    if kind == 0:
        return random.integers(-127, 128, shape)
    if kind == 1:
        return random.choice([-127, 127], shape)
    if kind == 2:
        return np.clip(np.rint(random.normal(0, 30, shape)), -127, 127)
    return np.full(shape, 127) * random.choice([-1, 1], (shape[0], 1))


def resnet(side: int, stem: int, widths: tuple[int, ...], *, bottleneck: bool = False) -> list[Operation]:
    """One block a stage, as in torchvision's ResNet, with any number of channels."""
    operations: list[Operation] = [Conv(stem, 7, stride=2), Pool()]
    channels = stem
    for stage, width in enumerate(widths):
        stride, block, out = (2 if stage else 1), len(operations) - 1, width * 2 if bottleneck else width
        shortcut = block
        if stride == 2 or out != channels:
            shortcut = len(operations)
            operations.append(Conv(out, 1, stride=stride))
        if bottleneck:
            operations += [Conv(width, 1, input=block), Conv(width, 3, stride=stride, padding=1)]
            operations.append(Conv(out, 1, residual=shortcut))
        else:
            operations.append(Conv(width, 3, stride=stride, padding=1, input=block))
            operations.append(Conv(width, 3, padding=1, residual=shortcut))
        channels = out
    return operations
