"""Ranges of every activation, from batch-norm statistics (no photo needed) or from photos."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from edge.workshop.export.network.float_network import (
    CURVES,
    FLAT_BELOW,
    FloatConv,
    FloatGate,
    FloatHead,
    FloatNetwork,
    Linear,
    result,
    walk,
)
from edge.workshop.export.network.operations import IMAGENET_MEAN, IMAGENET_STD, PIXELS, Activation, MaxPool

# Standard deviations on each side of the mean. From 6 to 8 the probabilities are equally close to FP32's; below
# 6 too much is cut off, and above 8 the steps grow too coarse.
SIGMAS = 6.0
# Outputs without an activation have short tails on both sides, so a narrower range is better.
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
        """Of the product, if the two are independent."""
        square = (self.mean**2 + self.std**2) * (other.mean**2 + other.std**2)
        mean = self.mean * other.mean
        return _Moments(mean, (square - mean**2).clamp_min(0).sqrt())

    def through(self, layer: Linear) -> _Moments:
        """Of a linear layer's outputs, if its inputs are independent."""
        return _Moments(layer.weight @ self.mean + layer.bias, (layer.weight**2 @ self.std**2).sqrt())

    def after(self, activation: Activation) -> _Moments:
        """The moments of the activation of a normally distributed value."""
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

    def curved(self, activation: Activation, most: torch.Tensor) -> Range:
        """The range of the smooth curve of x, each channel times `most`."""
        z = torch.linspace(-SIGMAS, SIGMAS, _STEPS)[:, None]
        curve = CURVES[activation](self.mean + z * self.std) * most
        return Range(min(float(curve.min()), 0.0), max(float(curve.max()), 1e-6))


# Of ImageNet's photos, also for a network whose mean and std are 0 and 1 or 0.5 and 0.5: those do not describe photos.
_PHOTOS = _Moments(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD))


def data_free_ranges(network: FloatNetwork) -> dict[str, Range]:
    """Mean ± `SIGMAS` standard deviations of each value, carried through residuals, activations, gates and pools.

    A batch norm's bias and scale are the mean and standard deviation of its output on the training set.
    Keys are the values' names; `NAME:norm` is a convolution's output before residual and activation.
    """
    rules = _MomentRules()
    result(network.operations, _PHOTOS, rules)
    ranges: dict[str, Range] = {}
    for conv in network.convolutions:
        table, here = conv.table, rules.before[conv.table.output]
        sigmas = SIGMAS if table.activation else SIGMAS * LINEAR
        if conv.gate is not None:
            factors = _factors(conv.gate, here.after(table.activation))
            most = (factors.mean + SIGMAS * factors.std).clamp_max(1.0)
            ranges[table.output] = here.curved(table.activation, most)
        elif table.activation in FLAT_BELOW:
            ranges[table.output] = here.curved(table.activation, torch.ones(()))
        else:
            ranges[table.output] = here.range(sigmas, table.activation)
        ranges[f"{table.output}:norm"] = _Moments(conv.mean, conv.std).range(sigmas, "")
    return _completed(network, ranges)


def _completed(network: FloatNetwork, ranges: dict[str, Range]) -> dict[str, Range]:
    """`ranges` with those of pixels and pools, and without the part of a norm that its smooth curve flattens to 0."""
    ranges[PIXELS] = Range(0.0, 1.0)
    for operation in network.operations:
        if isinstance(operation, MaxPool):  # a quantized pool keeps its input's scale
            ranges[operation.output] = ranges[operation.input]
        elif isinstance(operation, FloatConv):
            name = f"{operation.table.output}:norm"
            low = max(ranges[name].low, FLAT_BELOW.get(operation.table.activation, -math.inf))
            ranges[name] = Range(low, ranges[name].high)
    return ranges


def expected_means(network: FloatNetwork) -> dict[str, torch.Tensor]:
    """The mean of each channel of each convolution's input on the training set, by the convolution's name."""
    after = {PIXELS: _PHOTOS, **dict(walk(network.operations, _PHOTOS, _MomentRules()))}
    return {conv.table.output: after[conv.table.input].mean for conv in network.convolutions}


class _MomentRules:
    """Moments of each value from batch-norm statistics; `before` collects those before each activation."""

    def __init__(self) -> None:
        self.before: dict[str, _Moments] = {}

    def conv(self, conv: FloatConv, _: _Moments, residual: _Moments | None) -> _Moments:
        here = _Moments(conv.mean, conv.std)
        if residual is not None:
            here = here.plus(residual)
        self.before[conv.table.output] = here
        value = here.after(conv.table.activation)
        return value.times(_factors(conv.gate, value)) if conv.gate else value

    def max_pool(self, _: MaxPool, x: _Moments) -> _Moments:
        return x  # a pool's mean is a little higher; the difference does not matter here

    def head(self, _: FloatHead, x: _Moments) -> _Moments:
        return x  # the head is computed in floats and needs no range


def _factors(gate: FloatGate, value: _Moments) -> _Moments:
    """The moments of the gate's factor for each channel.

    The deviation is an overestimate, because the average that the gate reads varies less than the values do.
    """
    few = value.through(gate.squeeze).after(gate.table.activation)
    return few.through(gate.excite).after(gate.table.curve)


def calibrated_ranges(network: FloatNetwork, buffers: Iterable[torch.Tensor]) -> dict[str, Range]:
    """The minimum and maximum of each value over `buffers`, each (1, height, width, 3) uint8."""
    ranges: dict[str, Range] = {}
    with torch.inference_mode():
        for pixels in buffers:
            for name, value in network.values(pixels):
                seen = ranges.get(name, Range(0.0, 1e-6))
                ranges[name] = Range(min(seen.low, float(value.min())), max(seen.high, float(value.max())))
    return _completed(network, ranges)
