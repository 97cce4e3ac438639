"""The one place that touches torch's TorchScript and eager-quantization APIs, which torch ≥ 2.9 calls deprecated.

Both still work in every version that setup.cfg allows. Exactly their deprecation warnings are silenced,
here and nowhere else, so that any other warning still reaches whoever runs the program.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

_DEPRECATIONS = (
    r"`torch\.jit\.",  # "`torch.jit.load` is deprecated. Please switch to `torch.export`."
    r"torch\.ao\.quantization is deprecated",
    r"torch\.quantize_per_tensor, torch\.quantize_per_channel",  # pytorch#184982, once a process
)


@contextmanager
def known_deprecations() -> Iterator[None]:
    """Silence the deprecations of TorchScript and quantized tensors, and nothing else."""
    with warnings.catch_warnings():
        for message in _DEPRECATIONS:
            warnings.filterwarnings("ignore", message=message)
        yield


def load_script(model_bytes: bytes, place: str = "cpu") -> torch.jit.ScriptModule:
    """The TorchScript module in `model_bytes`; RuntimeError when it is not one."""
    with known_deprecations():
        # Said once a process by C++, which does not ask Python's filter while a file is read: have it said here.
        torch._make_per_tensor_quantized_tensor(torch.zeros(1, dtype=torch.uint8), 1.0, 0)
        return torch.jit.load(io.BytesIO(model_bytes), map_location=place)  # type: ignore[no-any-return, no-untyped-call]


def trace_script(module: torch.nn.Module, example: torch.Tensor, *, freeze: bool = True) -> torch.jit.ScriptModule:
    """`module` traced, with its parameters frozen in as constants unless they are to stay apart."""
    with known_deprecations(), torch.inference_mode():
        traced = torch.jit.trace(module.eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
        return torch.jit.freeze(traced) if freeze else traced  # type: ignore[no-any-return]


def save_script(module: torch.jit.ScriptModule, file: Path) -> None:
    """Write `module` to `file`; OSError when it cannot be, which torch's own writer would not tell."""
    with known_deprecations():
        content = io.BytesIO()
        torch.jit.save(module, content)
    file.write_bytes(content.getbuffer())


def quantized_weight(whole: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """(out, in / groups, height, width) int8 as qint8, symmetric, with a scale (out,) for each output channel."""
    with known_deprecations():
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        return torch._make_per_channel_quantized_tensor(whole, scales.double(), zeros, 0)


def prepack(weight: torch.Tensor, bias: torch.Tensor, stride: tuple[int, int], padding: int, groups: int) -> Any:
    """The engine's packed form of a convolution: weight as from `quantized_weight`, bias (out,) float32."""
    with known_deprecations():
        return torch.ops.quantized.conv2d_prepack(weight, bias, list(stride), [padding] * 2, [1, 1], groups)


def runs_qint8() -> bool:
    """Whether the current engine has a convolution of qint8 activations: a tiny one is tried."""
    try:
        packed = prepack(
            quantized_weight(torch.ones(8, 8, 1, 1, dtype=torch.int8), torch.ones(8)), torch.zeros(8), (1, 1), 0, 1
        )
        with known_deprecations(), torch.inference_mode():
            ones = torch._make_per_tensor_quantized_tensor(torch.ones(1, 8, 2, 2, dtype=torch.int8), 1.0, 0)
            sums = torch.ops.quantized.conv2d(ones, packed, 1.0, 0).int_repr()
    except RuntimeError:
        return False
    return bool((sums == 8).all())
