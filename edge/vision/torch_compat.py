"""The only module that calls torch's TorchScript and eager-quantization APIs, which are deprecated from torch 2.9 on.

Both work in every version that setup.cfg allows. Only their deprecation warnings are silenced, and only here, so that
the user still sees any other warning.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_DEPRECATIONS = (
    r"`torch\.jit\.",  # "`torch.jit.load` is deprecated. Please switch to `torch.export`."
    r"torch\.ao\.quantization is deprecated",
    r"torch\.quantize_per_tensor, torch\.quantize_per_channel",  # pytorch#184982, once a process
)


@contextmanager
def known_deprecations() -> Iterator[None]:
    """Silence the deprecation warnings of TorchScript and quantized tensors, and no others."""
    with warnings.catch_warnings():
        for message in _DEPRECATIONS:
            warnings.filterwarnings("ignore", message=message)
        yield


@known_deprecations()
def load_script(model_bytes: bytes, place: str = "cpu") -> torch.jit.ScriptModule:
    """The TorchScript module in `model_bytes`; raises RuntimeError if there is none."""
    # C++ warns once in each process, and while a file is loaded without asking Python's filter: trigger it here.
    torch._make_per_tensor_quantized_tensor(torch.zeros(1, dtype=torch.uint8), 1.0, 0)
    return torch.jit.load(io.BytesIO(model_bytes), map_location=place)  # type: ignore[no-any-return, no-untyped-call]


@known_deprecations()
@torch.inference_mode()
def trace_script(module: torch.nn.Module, example: torch.Tensor, *, freeze: bool = True) -> torch.jit.ScriptModule:
    """`module` traced; with `freeze` its parameters become constants of the graph."""
    traced = torch.jit.trace(module.eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
    return torch.jit.freeze(traced) if freeze else traced  # type: ignore[no-any-return]


@known_deprecations()
def script_bytes(module: torch.jit.ScriptModule) -> bytes:
    """The content of a file that holds `module`."""
    content = io.BytesIO()
    torch.jit.save(module, content)
    return content.getvalue()


@known_deprecations()
def quantized_weight(whole: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """A weight (out, in / groups, height, width) int8 as symmetric qint8, with a scale (out,) per output channel."""
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    return torch._make_per_channel_quantized_tensor(whole, scales.double(), zeros, 0)


@known_deprecations()
def prepack(weight: torch.Tensor, bias: torch.Tensor, stride: tuple[int, int], padding: int, groups: int) -> Any:
    """A convolution in the engine's packed form; weight as from `quantized_weight`, bias (out,) float32."""
    return torch.ops.quantized.conv2d_prepack(weight, bias, list(stride), [padding] * 2, [1, 1], groups)


@known_deprecations()
@torch.inference_mode()
def runs_qint8() -> bool:
    """Whether the current engine can convolve qint8 activations, found by trying a tiny convolution."""
    try:
        weight = quantized_weight(torch.ones(8, 8, 1, 1, dtype=torch.int8), torch.ones(8))
        packed = prepack(weight, torch.zeros(8), (1, 1), 0, 1)
        ones = torch._make_per_tensor_quantized_tensor(torch.ones(1, 8, 2, 2, dtype=torch.int8), 1.0, 0)
        sums = torch.ops.quantized.conv2d(ones, packed, 1.0, 0).int_repr()
    except RuntimeError:
        return False
    return bool((sums == 8).all())
