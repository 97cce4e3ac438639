"""Folds batch norms and the input's normalisation into convolutions: state dict in, float network out."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)

from edge.errors import WeightsError
from edge.workshop.export.network.float_network import (
    FloatConv,
    FloatGate,
    FloatHead,
    FloatNetwork,
    FloatOperation,
    Linear,
)
from edge.workshop.export.network.operations import PIXELS, Architecture, Conv, Head, MaxPool, Operation

GREATEST = 1e15  # up to here float32 holds the sum of a layer's squares, which the ranges need

StateDict = Mapping[str, torch.Tensor]


def fold_batch_norms(architecture: Architecture, state: StateDict) -> FloatNetwork:
    """The float network of `architecture` with the weights of `state`.

    Raises:
        WeightsError: keys or shapes are not those of the architecture, a variance is negative, or what is folded or
            computed is beyond float32.
    """
    if unknown := sorted(state.keys() - _keys(architecture)):
        raise WeightsError(
            f"These weights hold {unknown[0]}, which a {architecture.name} does not have; name the right"
            " --architecture."
        )
    try:
        network = FloatNetwork(architecture, tuple(_fold_one(architecture, o, state) for o in architecture.operations))
        low, high = architecture.border
        side = architecture.size + low + high
        noise = torch.randint(256, (1, side, side, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        with torch.inference_mode():
            for name, value in network.values(noise):
                _refuse_beyond(f"what {name.removesuffix(':norm') or 'the head'} gives", value)
    except KeyError as error:
        raise WeightsError(
            f"These weights lack {error}, so they are not a {architecture.name}; name the right --architecture."
        ) from error
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"These weights do not have the shapes of a {architecture.name} ({reason:.200}); use weights made for it."
        ) from error
    return network


def _keys(architecture: Architecture) -> set[str]:
    """All keys that the state dict may have. A deeper network has others too, and would pass for a shallower one."""
    keys: set[str] = set()
    for operation in architecture.operations:
        if isinstance(operation, Conv):
            norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")  # the last is not used
            keys |= {operation.weight, *(f"{operation.norm}.{part}" for part in norm)}
        layers: tuple[str, ...] = ()
        if isinstance(operation, Conv) and operation.gate:
            layers = (operation.gate.squeeze, operation.gate.excite)
        elif isinstance(operation, Head):
            layers = (operation.linear, operation.hidden)
        keys |= {f"{layer}.{part}" for layer in layers if layer for part in ("weight", "bias")}
    return keys


def _fold_one(architecture: Architecture, operation: Operation, state: StateDict) -> FloatOperation:
    if isinstance(operation, MaxPool):
        return operation
    if isinstance(operation, Head):
        hidden = _layer(operation.hidden, state) if operation.hidden else None
        return FloatHead(operation, _layer(operation.linear, state), hidden)
    gate = None
    if operation.gate is not None:
        gate = FloatGate(operation.gate, _layer(operation.gate.squeeze, state), _layer(operation.gate.excite, state))
    return _fold_conv(architecture, operation, state, gate)


def _layer(prefix: str, state: StateDict) -> Linear:
    """A linear layer, or a 1 × 1 convolution that is used as one."""
    weight, bias = state[f"{prefix}.weight"], state[f"{prefix}.bias"]
    if weight.shape[2:].numel() != 1 or bias.shape != weight.shape[:1]:
        raise ValueError(f"{prefix}.weight is {tuple(weight.shape)}")
    return Linear(_float32(f"{prefix}.weight", weight.flatten(1)), _float32(f"{prefix}.bias", bias))


def _float32(key: str, value: torch.Tensor) -> torch.Tensor:
    """`value` as float32; a float64 state dict may hold, or fold into, more than float32 can."""
    value = value.float()
    _refuse_beyond(key, value)
    return value


def _refuse_beyond(what: str, value: torch.Tensor) -> None:
    if not (value.abs() <= GREATEST).all():
        raise WeightsError(
            f"These weights are broken: {what} is not finite, or beyond the {GREATEST:g} that float32 computes with;"
            " get them again, or use others."
        )


def _fold_conv(architecture: Architecture, operation: Conv, state: StateDict, gate: FloatGate | None) -> FloatConv:
    gamma, beta, mean, variance = (
        state[f"{operation.norm}.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
    )
    raw = state[operation.weight]
    # Shapes that broadcast raise no error by themselves: one channel for three, one scale for all.
    if {value.shape for value in (gamma, beta, mean, variance)} != {raw.shape[:1]} or (
        operation.input == PIXELS and raw.shape[1] != 3
    ):
        raise ValueError(f"{operation.weight} is {tuple(raw.shape)}")
    if not (variance >= 0).all():
        raise WeightsError(
            f"These weights are broken: {operation.norm}.running_var has a negative variance; get them again, or use"
            " others."
        )
    scale = gamma / (variance + architecture.norm_epsilon).sqrt()
    weight = raw.double() * scale[:, None, None, None]
    bias = beta - mean * scale
    if operation.input == PIXELS:
        if architecture.colour == "BGR":
            weight = weight.flip(1)  # the buffer is RGB, and so are mean and std
        # conv((x − mean) / std) = conv'(x) + bias', x being pixel / 255
        std = torch.tensor(architecture.std, dtype=torch.float64)[None, :, None, None]
        centre = torch.tensor(architecture.mean, dtype=torch.float64)[None, :, None, None]
        weight = weight / std
        bias = bias - (weight * centre).sum((1, 2, 3))
    before, after = operation.padding
    if after > before:
        # A row and a column of zero weights in front make the padding the same on every side, exactly.
        weight = F.pad(weight, (after - before, 0, after - before, 0))
    bias = _float32(f"{operation.norm} folded", bias)
    weight = _float32(f"{operation.weight} folded", weight)
    beta, gamma = _float32(f"{operation.norm}.bias", beta), _float32(f"{operation.norm}.weight", gamma)
    return FloatConv(operation, weight, bias, beta, gamma.abs(), after, gate)
