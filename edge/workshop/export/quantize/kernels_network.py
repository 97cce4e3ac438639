"""The INT8 trunk for the kernels of `edge/kernels/`: a TorchScript module with data as `trunk.h` describes it.

The recipe is that of `int8_network.py`, with the residual added before rounding, in floats. Served are networks of
plain convolutions, as the ResNets are; `unserved` returns why another one is not.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edge.errors import BundleError
from edge.vision.torch_compat import script_bytes, trace_script
from edge.workshop.export.network.float_network import FLAT_BELOW, FloatConv, FloatHead, FloatNetwork
from edge.workshop.export.network.operations import PIXELS, Architecture, Conv, Head, MaxPool
from edge.workshop.export.quantize.ranges import Range, expected_means
from edge.workshop.export.quantize.rounding import rounded, rounding_shift, weight_scales

# As in `trunk.h`.
MAGIC, VERSION, HEADER_WORDS, ROW_WORDS = 0x4B525445, 1, 8, 16
CONV, MAX_POOL, AVERAGE = 1, 2, 3
NONE = -1  # no such operation: as an input, the pixels
_ALIGNED = 64  # bytes, of each array
_MOST = 2.0**29  # of a bias: with the products the sum stays far below 2³¹

Bytes = npt.NDArray[np.uint8]


def unserved(architecture: Architecture) -> str:
    """Why the kernels do not serve a network, as the end of a sentence; "" if they do."""
    for operation in architecture.operations:
        if isinstance(operation, Conv):
            if operation.depthwise:
                return "it has depthwise convolutions"
            if operation.gate is not None:
                return "it has gates (squeeze and excitation)"
            if operation.activation in FLAT_BELOW:
                return f"it has the activation {operation.activation}"
        elif isinstance(operation, Head) and operation.hidden:
            return "it has two linear layers"
    return ""


def trunk_bytes(network: FloatNetwork, ranges: Mapping[str, Range]) -> bytes:
    """The trunk as a TorchScript file: (1, side, side, 3) uint8 pixels in, (1, features) float32 out.

    Raises:
        BundleError: the kernels do not serve the network, or are not here.
    """
    from edge.kernels import operator

    if reason := unserved(network.architecture):
        raise BundleError(
            f"The kernels of edge-classifier's own do not serve {network.architecture.name}: {reason};"
            " torch's engines do."
        )
    operator.register()
    side = network.architecture.size + sum(network.architecture.border)
    module = _Trunk(torch.from_numpy(trunk_data(network, ranges)), network.features)
    # Not frozen: that has nothing to gain here, and in torch 2.14 it keeps the data in memory for good.
    script = trace_script(module, torch.zeros((1, side, side, 3), dtype=torch.uint8), freeze=False)
    return script_bytes(script)


class _Trunk(torch.nn.Module):
    """The operator with its data."""

    data: torch.Tensor

    def __init__(self, data: torch.Tensor, features: int) -> None:
        super().__init__()
        self.register_buffer("data", data)
        self._features = features

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = torch.ops.edge.trunk(pixels, self.data, self._features)
        return features


def trunk_data(network: FloatNetwork, ranges: Mapping[str, Range]) -> Bytes:
    """The bytes, (length,) uint8, that the kernels' `edge_trunk_create` takes."""
    writer = _Writer(network, ranges)
    for operation in network.operations:
        if isinstance(operation, FloatConv):
            writer.conv(operation)
        elif isinstance(operation, MaxPool):
            writer.max_pool(operation)
        else:
            writer.average(operation)
    return writer.finished()


@dataclass(frozen=True, slots=True)
class _Value:
    """The result of an operation."""

    number: int  # of the operation
    scale: float
    zero: int
    side: int


class _Writer:
    """Writes one row of words for each operation, and behind all rows the arrays that they name."""

    def __init__(self, network: FloatNetwork, ranges: Mapping[str, Range]) -> None:
        self._network, self._ranges = network, ranges
        self._means = expected_means(network)
        self._side = network.architecture.size + sum(network.architecture.border)
        self._values = {PIXELS: _Value(NONE, 1 / 255, 0, self._side)}
        self._rows: list[list[int]] = []
        self._arrays = bytearray()
        self._start = 4 * (HEADER_WORDS + ROW_WORDS * len(network.operations))
        self._start += -self._start % _ALIGNED

    def conv(self, conv: FloatConv) -> None:
        """Its weights, biases and scales, as whole numbers where the kernels compute with such."""
        table, source = conv.table, self._values[conv.table.input]
        value = self._add(table.output, source, conv.weight.shape[2], table.stride, conv.padding)
        # A channel whose weights are all 0 has a step so small that its bias would not fit.
        steps = weight_scales(conv.weight, small_pairs=False)
        steps = torch.maximum(steps, conv.bias.abs() / (_MOST * source.scale))
        whole = rounded(conv.weight, steps, pixels=table.input == PIXELS)
        shift = rounding_shift(whole * steps[:, None, None, None] - conv.weight, self._means[table.output])
        bias = (conv.bias - shift).double()
        sums = steps.double() * source.scale  # what 1 in the sum stands for, (out,)
        residual, factor = NONE, 0
        if table.residual:
            added = self._values[table.residual]
            residual, factor = added.number, _bits(added.scale / value.scale)
        window = [*conv.weight.shape[2:], table.stride, conv.padding]
        arrays = [
            self._put(whole.permute(0, 2, 3, 1).numpy(), "int8"),
            self._put((bias / sums).round().numpy(), "<i4"),
            self._put((sums / value.scale).numpy(), "<f4"),
        ]
        low = value.zero if table.activation else -128
        self._row(CONV, source.number, residual, len(bias), *window, value.zero, low, *arrays, factor)

    def max_pool(self, pool: MaxPool) -> None:
        """A pool keeps scale and zero point of its input."""
        source = self._values[pool.input]
        self._add(pool.output, source, pool.size, pool.stride, pool.padding, kept=True)
        self._row(MAX_POOL, source.number, NONE, 0, pool.size, pool.size, pool.stride, pool.padding)

    def average(self, head: FloatHead) -> None:
        """The part of the head that belongs to the trunk."""
        source = self._values[head.table.input]
        self._row(AVERAGE, source.number, NONE, *[0] * 10, _bits(source.scale / source.side**2))

    def finished(self) -> Bytes:
        """Header, rows and arrays."""
        length = self._start + len(self._arrays)
        header = [MAGIC, VERSION, length, self._side, len(self._rows), self._network.features]
        words = [*header, 4 * HEADER_WORDS, ROW_WORDS, *(word for row in self._rows for word in row)]
        head = np.array(words, "<i4").tobytes()
        return np.frombuffer(head.ljust(self._start, b"\0") + self._arrays, np.uint8).copy()

    def _add(self, name: str, source: _Value, kernel: int, stride: int, padding: int, *, kept: bool = False) -> _Value:
        """Name the result of the next operation."""
        side = (source.side + 2 * padding - kernel) // stride + 1
        scale, zero = (source.scale, source.zero) if kept else _int8(self._ranges[name])
        value = self._values[name] = _Value(len(self._rows), scale, zero, side)
        return value

    def _row(self, *words: int) -> None:
        self._rows.append([*words, *[0] * (ROW_WORDS - len(words))])

    def _put(self, array: npt.NDArray[Any], kind: str) -> int:
        """Append an array and return its offset."""
        offset = self._start + len(self._arrays)
        self._arrays += np.ascontiguousarray(array, np.dtype(kind)).tobytes()
        self._arrays += bytes(-len(self._arrays) % _ALIGNED)
        return offset


def _int8(range_: Range) -> tuple[float, int]:
    """Scale and zero point of a value, as `int8_network.py` has them for qint8."""
    scale = (range_.high - range_.low) / 255
    return scale, round(-range_.low / scale) - 128


def _bits(value: float) -> int:
    """The bits of a float32 as an int32."""
    return int(struct.unpack("<i", struct.pack("<f", value))[0])
