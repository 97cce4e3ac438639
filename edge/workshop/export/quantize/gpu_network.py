"""The network for a Jetson's GPU: FP16, or INT8 with explicit quantization, from which TensorRT builds an engine.

Experimental: no board has run this yet.

Symmetric, as TensorRT needs it: scale = greatest magnitude / 127, zero point 0, over the same ranges as for the CPU.
The first convolution has no quantized input, so it stays FP16 on the raw pixels; so does a hidden layer.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import torch

from edge.errors import BundleError
from edge.vision.torch_compat import script_bytes, trace_script
from edge.workshop.export.network.float_network import (
    FloatConv,
    FloatGate,
    FloatHead,
    FloatNetwork,
    FloatOperation,
    Linear,
    TensorRules,
    result,
)
from edge.workshop.export.network.operations import PIXELS, MaxPool
from edge.workshop.export.quantize.ranges import Range

LOW, HIGH = -128, 127
Precision = Literal["auto", "int8", "fp16"]
Move = Callable[[torch.Tensor], torch.Tensor]


class GpuNetwork(TensorRules, torch.nn.Module):
    """The trunk: pixels as floats 0 to 255, (1, 3, height, width), in; features (1, features) out; made to be traced.

    Args:
        network: the float network.
        ranges: of every value, by name; with None nothing is rounded to INT8.
        move: copies each weight to the GPU, in the type that the network computes in.
    """

    def __init__(
        self, network: FloatNetwork, ranges: Mapping[str, Range] | None, move: Move = lambda weight: weight
    ) -> None:
        super().__init__()
        self._ranges = ranges
        self._operations = tuple(_moved(operation, move) for operation in network.operations)
        for operation in self._operations:
            if isinstance(operation, FloatConv):
                # As a buffer the weight stays out of the graph, and its rounding stays in it, where TensorRT needs it.
                self.register_buffer(_buffer(operation), operation.weight)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features of the padded pixels."""
        return result(self._operations, pixels / 256, self)

    def conv(self, conv: FloatConv, x: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
        """In floats, then rounded to the steps of INT8 if there are ranges."""
        table, weight = conv.table, self.get_buffer(_buffer(conv))
        if self._ranges is not None and table.input != PIXELS:
            weight = _rounded(weight)
        strides, paddings = (table.stride, table.stride), (conv.padding, conv.padding)
        x = conv.finish(torch.conv2d(x, weight, conv.bias, strides, paddings, groups=conv.groups), residual)
        if self._ranges is None:
            return x
        value = self._ranges[table.output]
        return torch.fake_quantize_per_tensor_affine(x, max(-value.low, value.high) / HIGH, 0, LOW, HIGH)

    def head(self, head: FloatHead, x: torch.Tensor) -> torch.Tensor:
        """Average and a hidden layer."""
        return head.features(x.mean((2, 3)))


def _buffer(conv: FloatConv) -> str:
    return "weight_" + conv.table.output.replace(".", "_")


def _rounded(weight: torch.Tensor) -> torch.Tensor:
    scales = weight.abs().amax(dim=(1, 2, 3)).clamp_min(1e-12) / HIGH
    zeros = torch.zeros_like(scales, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scales.float(), zeros, 0, LOW, HIGH)


def _moved(operation: FloatOperation, move: Move) -> FloatOperation:
    if isinstance(operation, MaxPool):
        return operation
    if isinstance(operation, FloatHead):
        return dataclasses.replace(operation, hidden=operation.hidden and Linear(*map(move, operation.hidden)))
    weight, gate = operation.weight, operation.gate
    if operation.table.input == PIXELS:
        weight = weight * (256 / 255)  # the input is pixels / 256, which FP16 holds exactly, unlike pixels / 255
    if gate is not None:
        gate = FloatGate(gate.table, Linear(*map(move, gate.squeeze)), Linear(*map(move, gate.excite)))
    return dataclasses.replace(operation, weight=move(weight), bias=move(operation.bias), gate=gate)


class RawPixels(torch.nn.Module):
    """The padded uint8 buffer (1, height, width, 3) in, for a network that takes floats in channels-last order."""

    def __init__(self, network: torch.nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """float32 features (1, features)."""
        # NHWC memory is NCHW in channels-last order: nothing is moved, only the type changes.
        features: torch.Tensor = self.network(pixels.permute(0, 3, 1, 2).to(self.dtype))
        return features.float()


class NoEngineError(BundleError):
    """TensorRT cannot make an INT8 engine here; `reason` has no full stop."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"There is no INT8 for this GPU: {reason}; fix that, or export with --precision fp16.")


class Gpu(Protocol):
    """What an export needs of a GPU; tests pass one that computes on the CPU."""

    dtype: torch.dtype  # of a network without TensorRT
    place: str  # "cuda"

    def engine(self, traced: torch.jit.ScriptModule, example: torch.Tensor) -> torch.jit.ScriptModule:
        """An INT8 engine of a network with explicit quantization; raises NoEngineError if it cannot be made."""
        ...


# The errors of a Torch-TensorRT that does not fit its torch or TensorRT: a missing library, a removed name or option,
# operators that are registered twice, a layer that cannot be built.
_BROKEN = (ImportError, OSError, RuntimeError, AttributeError, TypeError, ValueError)


def tensorrt_engine(traced: torch.jit.ScriptModule, example: torch.Tensor) -> torch.jit.ScriptModule:
    """Built by Torch-TensorRT's compiler, which only this function needs; the daemon loads the runtime.

    Raises:
        NoEngineError: Torch-TensorRT is not installed, or does not work.
    """
    if importlib.util.find_spec("torch_tensorrt") is None:
        raise NoEngineError("Torch-TensorRT is not installed")
    try:
        torch_tensorrt = importlib.import_module("torch_tensorrt")  # NVIDIA's; it has no wheel for most machines
        compiled: torch.jit.ScriptModule = torch_tensorrt.compile(
            traced,
            ir="ts",
            inputs=[torch_tensorrt.Input(tuple(example.shape), dtype=torch.float32)],
            enabled_precisions={torch.int8, torch.float16, torch.float32},
        )
    except _BROKEN as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise NoEngineError(f"Torch-TensorRT fails ({reason:.120})") from error
    return compiled


class Jetson:
    """The GPU of this machine; never run on a real board yet.

    Raises:
        BundleError: torch sees none.
    """

    dtype = torch.float16
    place = "cuda"
    engine = staticmethod(tensorrt_engine)

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise BundleError(
                "A bundle for a Jetson is made on the Jetson, and torch sees no GPU here; export it there."
            )


def make_int8(network: FloatNetwork, ranges: Mapping[str, Range], example: torch.Tensor, gpu: Gpu) -> bytes:
    """The trunk in INT8 through TensorRT; `example` is a buffer (1, side, side, 3) uint8.

    Raises:
        NoEngineError: TensorRT cannot make it here.
    """
    pixels = example.permute(0, 3, 1, 2).float().to(gpu.place)
    rounded = GpuNetwork(network, ranges, lambda weight: weight.to(gpu.place))
    engine = gpu.engine(trace_script(rounded, pixels, freeze=False), pixels)
    return script_bytes(trace_script(RawPixels(engine, torch.float32), example.to(gpu.place)))


def make_fp16(network: FloatNetwork, example: torch.Tensor, gpu: Gpu) -> bytes:
    """The trunk in FP16 in channels-last order, which needs only torch; `example` as for `make_int8`."""

    def move(weight: torch.Tensor) -> torch.Tensor:
        moved = weight.to(gpu.place, gpu.dtype)
        return moved.contiguous(memory_format=torch.channels_last) if moved.dim() == 4 else moved

    plain = RawPixels(GpuNetwork(network, None, move), gpu.dtype)
    return script_bytes(trace_script(plain, example.to(gpu.place)))
