"""The INT8 trunk for ONNX Runtime: the recipe of `int8_network.py`, as an ONNX file with explicit quantization (QDQ).

Every value is stored as 8-bit integers and read through a DequantizeLinear. ONNX Runtime replaces an operation between
such pairs by its integer kernel, so the graph is written to let it: a ReLU is the lower limit of the stored range, and
silu is a product of two stored values. Floats remain where it has no integer kernel (hardswish) and where the recipe
wants them: in the averages, and in the small layers behind them.

The file has operators of ONNX's own set only and is not optimized in advance, so it is tied neither to a version of
ONNX Runtime nor to a processor. To optimize ResNet-18 while it is loaded takes 40 ms on x86.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edge.vision.manifest import Activations
from edge.workshop.export.network.float_network import (
    CURVES,
    FLAT_BELOW,
    FloatConv,
    FloatGate,
    FloatHead,
    FloatNetwork,
    Linear,
    walk,
)
from edge.workshop.export.network.operations import PIXELS, Activation, MaxPool
from edge.workshop.export.quantize import onnx_file
from edge.workshop.export.quantize.onnx_file import Attribute
from edge.workshop.export.quantize.ranges import Range, expected_means
from edge.workshop.export.quantize.rounding import rounded, rounding_shift, weight_scales

# The least that suffices: BitwiseXor came with opset 18. Debian trixie's ONNX Runtime 1.21 reads up to 22, and IR 10.
OPSET, IR_VERSION = 18, 8
FEATURES = "features"  # the name of the output; the input is called PIXELS
_PLANES = (2, 3)  # the axes of height and width
_GREATEST_BIAS = 2**30  # a convolution adds its products to a bias of 32 bits


def trunk_bytes(
    network: FloatNetwork, ranges: Mapping[str, Range], activations: Activations, *, small_pairs: bool
) -> bytes:
    """An ONNX file: padded pixels (photos, side, side, 3) uint8 in, features (photos, features) float32 out.

    Args:
        network: the float network; its last linear layer is left out.
        ranges: of every value, by name.
        activations: quint8 for x86, which multiplies unsigned by signed numbers, and qint8 for ARM. Each runs on both.
        small_pairs: keep the sum of two neighbouring products within 16 bits.
    """
    writer = _Writer(network, ranges, signed=activations == "qint8", small_pairs=small_pairs)
    for _ in walk(network.operations, writer.pixels(), writer):
        pass
    return writer.file()


@dataclass(frozen=True)
class _Stored:
    """A tensor of 8-bit integers in the graph, each standing for (integer − zero) · scale."""

    name: str
    scale: float
    zero: int


class _Writer:
    """Writes each operation of a network as nodes; implements `Rules[_Stored]`."""

    def __init__(self, network: FloatNetwork, ranges: Mapping[str, Range], *, signed: bool, small_pairs: bool) -> None:
        architecture = network.architecture
        self._name, self._side = architecture.name, architecture.size + sum(architecture.border)
        self._ranges = ranges
        self._means = expected_means(network)
        self._signed = signed
        self._small_pairs = small_pairs
        self._nodes: list[bytes] = []
        self._constants: dict[str, bytes] = {}
        self._features = network.features

    def pixels(self) -> _Stored:
        """The photo's bytes as they are. As int8 they are pixel − 128, which is the pixel with its top bit inverted."""
        name = PIXELS
        if self._signed:
            top_bit = self._constant("top_bit", np.array(128, np.uint8))
            name = self._node(
                "Cast", [self._node("BitwiseXor", [name, top_bit], "flipped")], "int8", to=onnx_file.TYPES["int8"]
            )
        # ONNX Runtime's integer convolutions take NHWC, so it drops this again.
        name = self._node("Transpose", [name], "planes", perm=[0, 3, 1, 2])
        return _Stored(name, 1 / 255, self._lowest)

    def conv(self, conv: FloatConv, x: _Stored, residual: _Stored | None) -> _Stored:
        """Convolution, then residual or smooth activation, then gate."""
        table, name = conv.table, conv.table.output
        norm, end = self._ranges[f"{name}:norm"], self._ranges[name]
        output = self._convolution(conv, x)
        if residual is not None:
            value = self._quantized(output, norm, f"{name}:norm")
            return self._quantized(self._node("Add", self._read(value, residual), f"{name}:sum"), end, name)
        if table.activation in FLAT_BELOW:
            value, before = self._quantized(output, norm, f"{name}:norm"), _curved(norm, table.activation)
            value = self._curve(table.activation, value, end if conv.gate is None else before, f"{name}:curve")
        else:
            value = self._quantized(output, end if conv.gate is None else _cut(norm, table.activation), f"{name}:act")
        return value if conv.gate is None else self._gated(conv.gate, value, end, name)

    def max_pool(self, pool: MaxPool, x: _Stored) -> _Stored:
        """The maximum of each window, which keeps the scale of `x`."""
        size, strides, pads = [pool.size] * 2, [pool.stride] * 2, [pool.padding] * 4
        output = self._node(
            "MaxPool", self._read(x), f"{pool.output}:max", kernel_shape=size, strides=strides, pads=pads
        )
        return self._stored(output, x.scale, x.zero, pool.output)

    def head(self, head: FloatHead, x: _Stored) -> _Stored:
        """The average of all positions, and the layer before the last one, in floats."""
        averages = self._averages(x, FEATURES if head.hidden is None else "average")
        if head.hidden is not None:
            self._layer(head.hidden, averages, head.table.activation, "hidden", FEATURES)
        return x

    def file(self) -> bytes:
        """What was written, as a file's content."""
        return onnx_file.model(
            self._name,
            self._nodes,
            list(self._constants.values()),
            onnx_file.value_info(PIXELS, "uint8", ["photos", self._side, self._side, 3]),
            onnx_file.value_info(FEATURES, "float32", ["photos", self._features]),
            opset=OPSET,
            ir_version=IR_VERSION,
        )

    def _convolution(self, conv: FloatConv, x: _Stored) -> str:
        """The convolution's output as floats; its weight and bias are integers in the file."""
        table, (before, after) = conv.table, conv.table.padding
        # Without the zeros that made the padding the same on every side: here each side has its own.
        weight = conv.weight[..., after - before :, after - before :]
        scales = weight_scales(weight, small_pairs=self._small_pairs)
        # Where a channel's weights are next to nothing, its bias would have more steps than 32 bits hold.
        scales = torch.maximum(scales, conv.bias.abs() / (x.scale * _GREATEST_BIAS))
        whole = rounded(weight, scales, pixels=table.input == PIXELS)
        shift = rounding_shift(whole * scales[:, None, None, None] - weight, self._means[table.output])
        steps = scales.double() * x.scale
        bias = ((conv.bias - shift).double() / steps).round().to(torch.int32)
        integers = (self._integers(f"{table.output}.weight", whole, scales),
                    self._integers(f"{table.output}.bias", bias, steps))  # fmt: skip
        return self._node(
            "Conv",
            [*self._read(x), *integers],
            f"{table.output}:conv",
            kernel_shape=list(weight.shape[2:]),
            strides=[table.stride] * 2,
            pads=[before, before, after, after],
            group=conv.groups,
        )

    def _curve(self, activation: Activation, x: _Stored, to: Range, name: str) -> _Stored:
        """A smooth activation of `x`."""
        if activation == "silu":  # as a product of stored values it is computed in integers
            factor = self._stored(
                self._node("Sigmoid", self._read(x), f"{name}:sigmoid"), 1 / 255, self._lowest, f"{name}:factor"
            )
            return self._quantized(self._node("Mul", self._read(x, factor), f"{name}:product"), to, name)
        (floats,) = self._read(x)
        return self._quantized(self._activated(activation, floats, f"{name}:float"), to, name)

    def _gated(self, gate: FloatGate, x: _Stored, to: Range, name: str) -> _Stored:
        """`x` times a factor for each channel, which two small layers compute from all channels' averages."""
        few = self._layer(gate.squeeze, self._averages(x, f"{name}:average"), gate.table.activation, f"{name}:squeeze")
        factors = self._layer(gate.excite, few, gate.table.curve, f"{name}:excite")
        planes = self._node("Unsqueeze", [factors, self._constant("axes", np.array(_PLANES))], f"{name}:planes")
        factor = self._stored(planes, 1 / 255, self._lowest, f"{name}:factor")
        return self._quantized(self._node("Mul", self._read(x, factor), f"{name}:product"), to, name)

    def _averages(self, x: _Stored, name: str) -> str:
        """(photos, channels) float32."""
        return self._node("Flatten", [self._node("GlobalAveragePool", self._read(x), f"{name}:planes")], name)

    def _layer(self, layer: Linear, x: str, activation: Activation, name: str, output: str = "") -> str:
        """A linear layer and its activation in floats, (photos, out)."""
        weight, bias = (self._constant(f"{name}.{part}", value.numpy()) for part, value in layer._asdict().items())
        y = self._node("Gemm", [x, weight, bias], f"{name}:norm", transB=1)
        return self._activated(activation, y, output or name)

    def _activated(self, activation: Activation, x: str, name: str) -> str:
        if activation == "silu":
            return self._node("Mul", [x, self._node("Sigmoid", [x], f"{name}:sigmoid")], name)
        if activation == "hardsigmoid":
            return self._node("HardSigmoid", [x], name, alpha=1 / 6, beta=0.5)
        return self._node({"relu": "Relu", "sigmoid": "Sigmoid", "hardswish": "HardSwish"}[activation], [x], name)

    @property
    def _lowest(self) -> int:
        """The zero point of a value that is never negative."""
        return -128 if self._signed else 0

    def _quantized(self, x: str, to: Range, name: str) -> _Stored:
        """Floats as integers; what is outside of `to` is cut off."""
        scale = (to.high - to.low) / 255
        return self._stored(x, scale, self._lowest + round(-to.low / scale), name)

    def _stored(self, x: str, scale: float, zero: int, name: str) -> _Stored:
        return _Stored(self._node("QuantizeLinear", [x, *self._step(scale, zero)], name), scale, zero)

    def _read(self, *values: _Stored) -> list[str]:
        """The values as floats. Each reader gets its own nodes: ONNX Runtime fuses those that nothing else reads."""
        return [
            self._node("DequantizeLinear", [x.name, *self._step(x.scale, x.zero)], f"{x.name}:read{len(self._nodes)}")
            for x in values
        ]

    def _step(self, scale: float, zero: int) -> tuple[str, str]:
        kind = np.int8 if self._signed else np.uint8
        return (
            self._constant(f"scale {scale!r}", np.array(scale, np.float32)),
            self._constant(f"zero {zero}", np.array(zero, kind)),
        )

    def _integers(self, name: str, whole: torch.Tensor, scales: torch.Tensor) -> str:
        """Constant integers as floats, with a scale (out,) for each output channel."""
        zeros = torch.zeros(len(scales), dtype=whole.dtype)
        parts = {name: whole, f"{name}_scale": scales.float(), f"{name}_zero": zeros}
        inputs = [self._constant(part, value.numpy()) for part, value in parts.items()]
        return self._node("DequantizeLinear", inputs, f"{name}:read", axis=0)

    def _constant(self, name: str, value: npt.NDArray[Any]) -> str:
        if name not in self._constants:
            self._constants[name] = onnx_file.constant(name, value)
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Attribute) -> str:
        self._nodes.append(onnx_file.node(kind, inputs, output, attributes))
        return output


def _cut(norm: Range, activation: Activation) -> Range:
    """The range after an activation that only cuts off."""
    if not activation:
        return norm
    return Range(0.0, min(norm.high, 6.0) if activation == "relu6" else norm.high)


def _curved(norm: Range, activation: Activation) -> Range:
    """The range after a smooth activation."""
    curve = CURVES[activation](torch.linspace(norm.low, norm.high, 1000))
    return Range(min(float(curve.min()), 0.0), max(float(curve.max()), 1e-6))
