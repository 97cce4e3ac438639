"""The INT8 network: one recipe for every architecture and both instruction sets.

Weights are symmetric per output channel, activations per tensor over the ranges of `ranges.py`; the
average and a linear layer before the last one stay float. The last one is not part of this network: it is the head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)

from edge.errors import BundleError
from edge.vision.engines.torch_kernels import Kernels
from edge.vision.manifest import Activations
from edge.vision.torch_compat import prepack, quantized_weight, script_bytes, trace_script
from edge.workshop.export.network.float_network import (
    FLAT_BELOW,
    FloatConv,
    FloatHead,
    FloatNetwork,
    TensorRules,
    result,
)
from edge.workshop.export.network.operations import PIXELS
from edge.workshop.export.quantize.ranges import Range, expected_means
from edge.workshop.export.quantize.rounding import rounded, rounding_shift, weight_scales

Convolution = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]  # of input and residual
View = tuple[tuple[int, ...], tuple[int, ...]]  # size and stride for `as_strided`


class QuantizedNetwork(TensorRules, torch.nn.Module):
    """The trunk: padded uint8 pixels (1, height, width, 3) in, features (1, features) out; made to be traced.

    Args:
        network: the float network.
        ranges: of every value, by name.
        kernels: must be torch's current ones, because they pack the weights.
        activations: qint8 for XNNPACK.
        small_pairs: keep the sum of two neighbouring products within 16 bits.
    """

    def __init__(
        self,
        network: FloatNetwork,
        ranges: Mapping[str, Range],
        kernels: Kernels,
        activations: Activations,
        *,
        small_pairs: bool,
    ) -> None:
        super().__init__()
        self._ranges = ranges
        self._means = expected_means(network)
        self._side = network.architecture.size + sum(network.architecture.border)
        self._kernels = kernels
        self._small_pairs = small_pairs
        self._signed = activations == "qint8"
        self._rows: View | None = None  # of the buffer, if the first convolution takes whole rows
        self._operations = network.operations
        self._convolutions = {conv.table.output: self._packed(conv) for conv in network.convolutions}

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features (1, features) of the padded buffer."""
        return result(self._operations, self._quantized(pixels), self)

    def conv(self, conv: FloatConv, x: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
        """With the weights that `__init__` packed."""
        return self._convolutions[conv.table.output](x, residual)

    def head(self, head: FloatHead, x: torch.Tensor) -> torch.Tensor:
        """Average and a hidden layer, in floats."""
        return head.features(x.dequantize().mean((2, 3)))

    def _quantized(self, pixels: torch.Tensor) -> torch.Tensor:
        # The bytes become a quantized tensor as they are: NHWC memory is NCHW in channels-last order.
        if self._rows is None:
            return torch._make_per_tensor_quantized_tensor(pixels.permute(0, 3, 1, 2), 1 / 255, 0)
        if not self._signed:
            windows = pixels.as_strided(*self._rows).contiguous()
            return torch._make_per_tensor_quantized_tensor(windows.permute(0, 3, 1, 2), 1 / 255, 0)
        # pixel − 128 as int8 is the pixel with its top bit inverted.
        windows = (pixels ^ 128).as_strided(*self._rows).to(torch.int8, memory_format=torch.contiguous_format)
        return torch._make_per_tensor_quantized_tensor(windows.permute(0, 3, 1, 2), 1 / 255, -128)

    def _scale(self, name: str) -> tuple[float, int]:
        """Scale and zero point of a value; 0.0 is always exact."""
        value = self._ranges[name]
        scale = (value.high - value.low) / 255
        zero = round(-value.low / scale)
        return scale, zero - 128 if self._signed else zero

    def _packed(self, conv: FloatConv) -> Convolution:
        table, ops = conv.table, torch.ops.quantized
        scales = weight_scales(conv.weight, small_pairs=self._small_pairs)
        whole, stride = rounded(conv.weight, scales, pixels=table.input == PIXELS), (table.stride, table.stride)
        shift = rounding_shift(whole * scales[:, None, None, None] - conv.weight, self._means[table.output])
        if table.input == PIXELS and self._kernels == "qnnpack":
            whole, self._rows = _rows_as_channels(whole, table.stride, self._side)
            stride = (table.stride, 1)
        weight = quantized_weight(whole, scales)
        packed: Any = prepack(weight, conv.bias - shift, stride, conv.padding, conv.groups)
        # TorchScript keeps what is an attribute of the module.
        setattr(self, "packed_" + table.output.replace(".", "_"), packed)
        scale, zero = self._scale(table.output)
        if conv.gate is not None or table.activation in FLAT_BELOW:
            return self._curved(conv, packed)
        if not table.residual:
            plain = ops.conv2d_relu if table.activation else ops.conv2d
            return lambda x, _: plain(x, packed, scale, zero)
        if self._kernels == "onednn":  # the only ones whose convolution adds the residual
            fused = ops.conv2d_add_relu if table.activation else ops.conv2d_add
            return lambda x, residual: fused(x, residual, packed, scale, zero)
        add = ops.add_relu if table.activation else ops.add
        norm_scale, norm_zero = self._scale(f"{table.output}:norm")
        return lambda x, residual: add(ops.conv2d(x, packed, norm_scale, norm_zero), residual, scale, zero)

    def _curved(self, conv: FloatConv, packed: Any) -> Convolution:
        """A convolution before a smooth activation or a gate, which are computed in floats and quantized again."""
        table, ops = conv.table, torch.ops.quantized
        scale, zero = self._scale(table.output)
        norm_scale, norm_zero = self._scale(f"{table.output}:norm")
        if table.activation == "hardswish" and conv.gate is None:  # the only smooth activation with an integer kernel
            return lambda x, _: ops.hardswish(ops.conv2d(x, packed, norm_scale, norm_zero), scale, zero)
        kind = torch.qint8 if self._signed else torch.quint8

        def in_floats(x: torch.Tensor, _: torch.Tensor | None) -> torch.Tensor:
            norm = ops.conv2d(x, packed, norm_scale, norm_zero).dequantize()
            return torch.quantize_per_tensor(conv.finish(norm), scale, zero, kind)

        return in_floats


def _rows_as_channels(whole: torch.Tensor, stride: int, side: int) -> tuple[torch.Tensor, View]:
    """The first convolution with each row of its window as one pixel of many channels: its weight, and its input.

    XNNPACK multiplies channels in fours or eights and pads 3 channels with zeros: on cores without dot product it
    multiplies 8 for 3. In an NHWC picture the pixels of one row of a window are adjacent in memory, so they can be the
    channels: 7 × 7 × 3 becomes 7 × 1 × 24, the eighth pixel with weights of zero.

    Returns:
        (out, 3 · taps, kernel height, 1) int8, and the view (1, side, positions, 3 · taps) of the buffer.
    """
    kernel = whole.shape[3]
    positions = (side - kernel) // stride + 1
    # One more tap makes the channels a multiple of four, if the last window still ends within its row.
    taps = kernel + 1 if (positions - 1) * stride + kernel + 1 <= side else kernel
    weight = F.pad(whole, (0, taps - kernel)).permute(0, 3, 1, 2).flatten(1, 2)[..., None]
    return weight.contiguous(), ((1, side, positions, 3 * taps), (side * side * 3, side * 3, stride * 3, 1))


def trunk_bytes(
    network: FloatNetwork,
    ranges: Mapping[str, Range],
    example: torch.Tensor,
    kernels: Kernels,
    activations: Activations,
    *,
    small_pairs: bool,
) -> bytes:
    """The content of `trunk.ts`; `example` is a buffer (1, side, side, 3) uint8. For the rest see `QuantizedNetwork`.

    Raises:
        BundleError: this torch cannot run the kernels.
    """
    try:
        int8 = QuantizedNetwork(network, ranges, kernels, activations, small_pairs=small_pairs)
        return script_bytes(trace_script(int8, example))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleError(
            f"torch {torch.__version__} cannot run this target's INT8 kernels here ({reason:.120});"
            " export on the device itself, with a torch that can, or with --engine onnxruntime."
        ) from error
