"""Ranges of every activation, from batch-norm statistics (no photo needed) or from photos."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from edge.export.fold import FloatNetwork, FoldedConv
from edge.export.networks import PIXELS, Activation, MaxPool

# Standard deviations on each side of the mean. From 6 to 8 the probabilities are equally close to FP32's; below
# 6 too much is cut off, and above 8 the steps grow too coarse.
SIGMAS = 6.0


@dataclass(frozen=True, slots=True)
class Range:
    """The values that INT8 has to represent; always holds 0, which padding needs to be exact."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Moments:
    """Mean and standard deviation of each channel."""

    mean: torch.Tensor
    std: torch.Tensor

    def range(self, sigmas: float, activation: Activation) -> Range:
        low = float((self.mean - sigmas * self.std).min())
        high = float((self.mean + sigmas * self.std).max())
        if activation:
            low, high = 0.0, min(high, 6.0) if activation == "relu6" else high
        return Range(min(low, 0.0), max(high, 1e-6))

    def plus(self, other: _Moments) -> _Moments:
        return _Moments(self.mean + other.mean, (self.std**2 + other.std**2).sqrt())

    def after(self, activation: Activation) -> _Moments:
        """Of max(0, x) for a normal x; the cut of relu6 is ignored, which only widens the range."""
        if not activation:
            return self
        std = self.std.clamp_min(1e-12)
        z = self.mean / std
        density, below = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi), torch.special.ndtr(z)
        mean = self.mean * below + std * density
        square = (self.mean**2 + std**2) * below + self.mean * std * density
        return _Moments(mean, (square - mean**2).clamp_min(0).sqrt())


def data_free_ranges(network: FloatNetwork, sigmas: float = SIGMAS) -> dict[str, Range]:
    """Mean ± `sigmas` standard deviations of each value, carried through residuals, activations and pools.

    A batch norm's bias and scale are the mean and standard deviation of its output on the training set.
    Keys are the values' names; `NAME:norm` is a convolution's output before its residual is added.
    """
    before = _moments(network)
    ranges = {PIXELS: Range(0.0, 1.0)}
    for operation in network.operations:
        if isinstance(operation, FoldedConv):
            table = operation.table
            ranges[f"{table.output}:norm"] = _Moments(operation.mean, operation.std).range(sigmas, "")
            ranges[table.output] = before[table.output].range(sigmas, table.activation)
        elif isinstance(operation, MaxPool):
            ranges[operation.output] = ranges[operation.input]
    return ranges


def expected_means(network: FloatNetwork) -> dict[str, torch.Tensor]:
    """The mean of each channel of each convolution's input on the training set, by the convolution's name."""
    before = _moments(network)
    means = {PIXELS: torch.tensor(network.architecture.mean)}
    expected: dict[str, torch.Tensor] = {}
    for operation in network.operations:
        if isinstance(operation, FoldedConv):
            table = operation.table
            expected[table.output] = means[table.input]
            means[table.output] = before[table.output].after(table.activation).mean
        elif isinstance(operation, MaxPool):
            means[operation.output] = means[operation.input]  # a pool's mean is higher; near enough
    return expected


def _moments(network: FloatNetwork) -> dict[str, _Moments]:
    """Of each convolution with its residual, before its activation."""
    before: dict[str, _Moments] = {}
    after: dict[str, _Moments] = {}
    for operation in network.operations:
        if isinstance(operation, FoldedConv):
            table = operation.table
            here = _Moments(operation.mean, operation.std)
            if table.residual:
                here = here.plus(after[table.residual])
            before[table.output] = here
            after[table.output] = here.after(table.activation)
        elif isinstance(operation, MaxPool):
            after[operation.output] = after[operation.input]
    return before


def calibrated_ranges(network: FloatNetwork, buffers: Iterable[torch.Tensor]) -> dict[str, Range]:
    """The least and the greatest of each value over `buffers`, each (1, height, width, 3) uint8."""
    ranges: dict[str, Range] = {}
    with torch.inference_mode():
        for pixels in buffers:
            for name, value in network.values(pixels):
                seen = ranges.get(name, Range(0.0, 1e-6))
                ranges[name] = Range(min(seen.low, float(value.min())), max(seen.high, float(value.max())))
    for operation in network.operations:
        if isinstance(operation, MaxPool):  # a quantized pool keeps its input's scale
            ranges[operation.output] = ranges[operation.input]
    return ranges | {PIXELS: Range(0.0, 1.0)}
