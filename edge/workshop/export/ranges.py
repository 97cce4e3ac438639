"""Ranges of every activation, from batch-norm statistics (no photo needed) or from photos."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from edge.workshop.export.activations import CURVES, FLAT_BELOW
from edge.workshop.export.fold import FloatNetwork, FoldedConv, FoldedGate
from edge.workshop.export.networks import IMAGENET_MEAN, IMAGENET_STD, PIXELS, Activation, MaxPool

# Standard deviations on each side of the mean. From 6 to 8 the probabilities are equally close to FP32's; below
# 6 too much is cut off, and above 8 the steps grow too coarse.
SIGMAS = 6.0
# What no activation follows has shorter tails, and both of them: less wide a range is better there.
LINEAR = 5 / 6
_STEPS = 121  # points between them, to find the moments of a smooth curve


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

    def times(self, other: _Moments) -> _Moments:
        """Of the product, if neither knew of the other."""
        square = (self.mean**2 + self.std**2) * (other.mean**2 + other.std**2)
        mean = self.mean * other.mean
        return _Moments(mean, (square - mean**2).clamp_min(0).sqrt())

    def through(self, weight: torch.Tensor, bias: torch.Tensor) -> _Moments:
        """Of a linear layer, if its inputs knew nothing of each other."""
        return _Moments(weight @ self.mean + bias, (weight**2 @ self.std**2).sqrt())

    def after(self, activation: Activation) -> _Moments:
        """Of the curve of a normal x."""
        if not activation:
            return self
        if activation != "relu":
            z = torch.linspace(-SIGMAS, SIGMAS, _STEPS)[:, None]
            share, curve = torch.exp(-(z**2) / 2), CURVES[activation](self.mean + z * self.std)
            share = share / share.sum()
            mean = (share * curve).sum(0)
            return _Moments(mean, (share * (curve - mean) ** 2).sum(0).sqrt())
        std = self.std.clamp_min(1e-12)
        z = self.mean / std
        density, below = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi), torch.special.ndtr(z)
        mean = self.mean * below + std * density
        square = (self.mean**2 + std**2) * below + self.mean * std * density
        return _Moments(mean, (square - mean**2).clamp_min(0).sqrt())

    def curved(self, sigmas: float, activation: Activation, most: torch.Tensor) -> Range:
        """The range of the smooth curve of x, each channel times `most`."""
        z = torch.linspace(-sigmas, sigmas, _STEPS)[:, None]
        curve = CURVES[activation](self.mean + z * self.std) * most
        return Range(min(float(curve.min()), 0.0), max(float(curve.max()), 1e-6))


def data_free_ranges(network: FloatNetwork, sigmas: float = SIGMAS) -> dict[str, Range]:
    """Mean ± `sigmas` standard deviations of each value, carried through residuals, activations, gates and pools.

    A batch norm's bias and scale are the mean and standard deviation of its output on the training set.
    Keys are the values' names; `NAME:norm` is a convolution's output before residual and activation.
    """
    before, _ = _moments(network)
    ranges = {PIXELS: Range(0.0, 1.0)}
    for operation in network.operations:
        if isinstance(operation, FoldedConv):
            table = operation.table
            wide = sigmas if table.activation else sigmas * LINEAR
            norm = _Moments(operation.mean, operation.std).range(wide, "")
            here, gate = before[table.output], operation.gate
            if gate is not None:
                factors = _factors(gate, here.after(table.activation))
                most = (factors.mean + sigmas * factors.std).clamp_max(1.0)
                ranges[table.output] = here.curved(sigmas, table.activation, most)
            elif table.activation in FLAT_BELOW:
                ranges[table.output] = here.curved(sigmas, table.activation, torch.ones(()))
            else:
                ranges[table.output] = here.range(wide, table.activation)
            ranges[f"{table.output}:norm"] = _cut(norm, table.activation)
        elif isinstance(operation, MaxPool):
            ranges[operation.output] = ranges[operation.input]
    return ranges


def _cut(norm: Range, activation: Activation) -> Range:
    """Without what a smooth curve makes the same of anyway."""
    return Range(max(norm.low, FLAT_BELOW.get(activation, -math.inf)), norm.high)


def expected_means(network: FloatNetwork) -> dict[str, torch.Tensor]:
    """The mean of each channel of each convolution's input on the training set, by the convolution's name."""
    after = _moments(network)[1]
    return {
        operation.table.output: after[operation.table.input].mean
        for operation in network.operations
        if isinstance(operation, FoldedConv)
    }


def _moments(network: FloatNetwork) -> tuple[dict[str, _Moments], dict[str, _Moments]]:
    """Of each convolution with its residual before its activation, and of each value."""
    before: dict[str, _Moments] = {}
    # Of the photos: a network's own mean and std may be 0 and 1, or 0.5 and 0.5, whatever the photos are like.
    after = {PIXELS: _Moments(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD))}
    for operation in network.operations:
        if isinstance(operation, FoldedConv):
            table = operation.table
            here = _Moments(operation.mean, operation.std)
            if table.residual:
                here = here.plus(after[table.residual])
            before[table.output] = here
            value = here.after(table.activation)
            after[table.output] = value.times(_factors(operation.gate, value)) if operation.gate else value
        elif isinstance(operation, MaxPool):
            after[operation.output] = after[operation.input]  # a pool's mean is higher; near enough
    return before, after


def _factors(gate: FoldedGate, value: _Moments) -> _Moments:
    """Of what each channel is multiplied by. An average varies less than the values do, so this is on the safe side."""
    few = value.through(gate.squeeze, gate.squeeze_bias).after(gate.table.activation)
    return few.through(gate.excite, gate.excite_bias).after(gate.table.curve)


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
        elif isinstance(operation, FoldedConv):
            name = f"{operation.table.output}:norm"
            ranges[name] = _cut(ranges[name], operation.table.activation)
    return ranges | {PIXELS: Range(0.0, 1.0)}
