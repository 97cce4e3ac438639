"""The curves between convolutions, and what INT8 has to know of the smooth ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)

from edge.workshop.export.networks import Activation

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
