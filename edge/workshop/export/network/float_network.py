"""A network's operations with their weights, batch norms folded in; the loop that computes them; the FP32 network.

`walk` calls the operations in order and keeps the named values. FP32, INT8, the GPU's network and the ranges differ
only in how one operation is computed (`Rules`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)

from edge.workshop.export.network.operations import PIXELS, Activation, Architecture, Conv, Gate, Head, MaxPool

Value = TypeVar("Value")
Curve = Callable[[torch.Tensor], torch.Tensor]

CURVES: dict[Activation, Curve] = {
    "": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "silu": F.silu,
    "hardsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
}

# Smooth activations, and the input below which their output is treated as 0 (silu is still −0.015 there). ReLUs are
# missing: the integer convolution does them itself.
FLAT_BELOW: dict[Activation, float] = {"hardswish": -3.0, "silu": -6.0}


class Linear(NamedTuple):
    """A linear layer."""

    weight: torch.Tensor  # (out, in)
    bias: torch.Tensor  # (out,)


@dataclass(frozen=True)
class FloatGate:
    """Squeeze and excitation: what each channel is multiplied by, computed from all channels' averages."""

    table: Gate
    squeeze: Linear  # from all channels to few
    excite: Linear  # from few to all

    def factors(self, averages: torch.Tensor) -> torch.Tensor:
        """(1, channels, 1, 1) in 0..1 of (1, channels)."""
        few = CURVES[self.table.activation](F.linear(averages, *self.squeeze))
        return CURVES[self.table.curve](F.linear(few, *self.excite))[..., None, None]


@dataclass(frozen=True)
class FloatConv:
    """A convolution that holds its batch norm; `mean` and `std` are those of its output on the training set."""

    table: Conv
    weight: torch.Tensor  # (out, in / groups, height, width) float32
    bias: torch.Tensor  # (out,)
    mean: torch.Tensor  # (out,) before residual and activation
    std: torch.Tensor  # (out,)
    padding: int  # the same on every side
    gate: FloatGate | None = None

    @property
    def groups(self) -> int:
        """As many groups as channels, or one."""
        return self.weight.shape[0] if self.table.depthwise else 1

    def finish(self, norm: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """The operation's float output from its batch norm's output: add `residual`, apply activation and gate."""
        x = norm if residual is None else norm + residual
        x = CURVES[self.table.activation](x)
        return x if self.gate is None else x * self.gate.factors(x.mean((2, 3)))


@dataclass(frozen=True)
class FloatHead:
    """Average, one or two linear layers, softmax."""

    table: Head
    linear: Linear  # from features to classes
    hidden: Linear | None = None  # the layer before it, from channels to features; without it they are the same

    def features(self, averages: torch.Tensor) -> torch.Tensor:
        """What the last layer takes, (photos, features), of (photos, channels)."""
        if self.hidden is not None:
            return CURVES[self.table.activation](F.linear(averages, *self.hidden))
        return averages

    def logits(self, averages: torch.Tensor) -> torch.Tensor:
        """(photos, classes) of (photos, channels)."""
        return F.linear(self.features(averages), *self.linear)


FloatOperation = FloatConv | MaxPool | FloatHead


class Rules(Protocol[Value]):
    """How each kind of operation is computed on one type of value."""

    def conv(self, conv: FloatConv, x: Value, residual: Value | None) -> Value:
        """Convolution with batch norm, residual, activation and gate."""
        ...

    def max_pool(self, pool: MaxPool, x: Value) -> Value:
        """Maximum of each window."""
        ...

    def head(self, head: FloatHead, x: Value) -> Value:
        """The network's result."""
        ...


def walk(operations: Iterable[FloatOperation], pixels: Value, rules: Rules[Value]) -> Iterator[tuple[str, Value]]:
    """Compute `operations` in order and yield the name and value of each; the head's name is ""."""
    values = {PIXELS: pixels}
    for operation in operations:
        if isinstance(operation, FloatConv):
            name, table = operation.table.output, operation.table
            x = rules.conv(operation, values[table.input], values[table.residual] if table.residual else None)
        elif isinstance(operation, MaxPool):
            name, x = operation.output, rules.max_pool(operation, values[operation.input])
        else:
            name, x = "", rules.head(operation, values[operation.table.input])
        values[name] = x
        yield name, x


def result(operations: Iterable[FloatOperation], pixels: Value, rules: Rules[Value]) -> Value:
    """What the head computes from `pixels`."""
    x = pixels
    for _, x in walk(operations, pixels, rules):  # noqa: B007 (only the last value is needed)
        pass
    return x


class TensorRules:
    """What is the same for float and quantized tensors."""

    def max_pool(self, pool: MaxPool, x: torch.Tensor) -> torch.Tensor:
        """The maximum of each window; a quantized result keeps the scale of `x`."""
        return F.max_pool2d(x, pool.size, pool.stride, pool.padding)


class _FloatRules(TensorRules):
    """FP32; `norm` is the last convolution's output before residual and activation."""

    def __init__(self) -> None:
        self.norm: torch.Tensor | None = None

    def conv(self, conv: FloatConv, x: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
        norm = F.conv2d(x, conv.weight, conv.bias, conv.table.stride, conv.padding, groups=conv.groups)
        self.norm = norm
        return conv.finish(norm, residual)

    def head(self, head: FloatHead, x: torch.Tensor) -> torch.Tensor:
        return head.logits(x.mean((2, 3))).softmax(1)


class FloatNetwork(torch.nn.Module):
    """The FP32 network on raw pixels, with which INT8 is compared.

    Folding is exact to 1e-5 of the original; the border's colour is the mean rounded to a whole pixel value.
    """

    def __init__(self, architecture: Architecture, operations: tuple[FloatOperation, ...]) -> None:
        super().__init__()
        self.architecture = architecture
        self.operations = operations

    @property
    def convolutions(self) -> tuple[FloatConv, ...]:
        """The operations that are convolutions, in order."""
        return tuple(operation for operation in self.operations if isinstance(operation, FloatConv))

    @property
    def head(self) -> FloatHead:
        """The last operation."""
        head = self.operations[-1]
        assert isinstance(head, FloatHead)
        return head

    @property
    def features(self) -> int:
        """How many values the last linear layer takes; all operations before it are the trunk."""
        return self.head.linear.weight.shape[1]

    @property
    def classes(self) -> int:
        """How many probabilities come out."""
        return len(self.head.linear.bias)

    def values(self, pixels: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Every named value for `pixels`, (1, height, width, 3) uint8, in order; the last, "", are probabilities.

        `NAME:norm`, before NAME, is a convolution's output before residual and activation.
        """
        rules = _FloatRules()
        for name, x in walk(self.operations, pixels.permute(0, 3, 1, 2).float() / 255, rules):
            if rules.norm is not None:
                yield f"{name}:norm", rules.norm
                rules.norm = None
            yield name, x

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Probabilities (1, classes) of the padded uint8 buffer (1, height, width, 3)."""
        return result(self.operations, pixels.permute(0, 3, 1, 2).float() / 255, _FloatRules())
