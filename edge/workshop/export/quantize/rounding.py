"""Weights as integers: the step (scale) of each output channel, and whether each weight is rounded up or down."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)

# The assumed correlation of two values of a channel that are one pixel apart, and of two colours of one pixel.
# Neighbours are alike in photos, after convolutions less so. The exact figures matter little: all from 0.5 to 0.9 work.
NEIGHBOURS, PIXEL_NEIGHBOURS, COLOURS = 0.5, 0.9, 0.9
_PASSES = 3  # over all weights of a kernel; a fourth changes nothing


def weight_scales(weight: torch.Tensor, *, small_pairs: bool) -> torch.Tensor:
    """The step of each output channel, (out,), for (out, in / groups, height, width) float32.

    Without VNNI x86 multiplies two activations of up to 255 with two weights and adds the products in 16 bits
    (vpmaddubsw), at most 32767: two weights of one sign whose sum exceeds 128 would saturate. Kernels pair neighbouring
    channels of a tap, or neighbouring taps of a channel; both are adjacent in `row`.
    """
    scales = weight.abs().amax((1, 2, 3)) / 127
    if small_pairs:
        row = F.pad(weight.permute(0, 2, 3, 1).flatten(1), (0, 1))  # channels innermost, as in memory
        signs = torch.stack((row, -row)).clamp_min(0)
        pairs = (signs[..., 1:] + signs[..., :-1]).amax((0, 2))
        scales = torch.maximum(scales, pairs / 126)  # `rounded` adds less than one to each
    return scales.clamp_min(1e-12)


def rounded(weight: torch.Tensor, scales: torch.Tensor, *, pixels: bool) -> torch.Tensor:
    """`weight`, (out, in / groups, height, width), in whole steps of `scales`, (out,), as int8.

    Each weight is rounded up or down so that a kernel's errors cancel out where neighbouring inputs are alike. With
    nearest rounding all errors add up on a flat patch of a photo. This is adaptive rounding with an assumed covariance,
    so it needs no photos.

    Args:
        weight: of a convolution.
        scales: as from `weight_scales`.
        pixels: whether the input is the photo, whose colours are alike too; else channels count as independent.
    """
    steps = weight / scales[:, None, None, None]
    errors = steps.round() - steps
    errors[errors.abs() < 1e-3] = 0.0  # already whole, as 127 is, which cannot be rounded up
    alike = _alike(weight.shape[2], weight.shape[3], PIXEL_NEIGHBOURS if pixels else NEIGHBOURS)
    if pixels:
        colours = torch.full((weight.shape[1],) * 2, COLOURS).fill_diagonal_(1)
        errors = _cancelled(errors.flatten(1), torch.kron(colours, alike))
    else:
        errors = _cancelled(errors.flatten(2).flatten(0, 1), alike)
    return (steps + errors.view_as(steps)).round().to(torch.int8)


def rounding_shift(difference: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
    """What rounding the weights adds to each output channel on average, (out,); the bias compensates it.

    The mean after a ReLU is not 0, so the rounding errors do not cancel out: they were half of the difference between
    the probabilities of INT8 and FP32.
    """
    of_channel = difference.sum((2, 3))  # (out, in / groups)
    if of_channel.shape[1] == 1:  # depthwise: each output has its own input
        return of_channel[:, 0] * means
    return of_channel @ means


def _alike(height: int, width: int, neighbours: float) -> torch.Tensor:
    """The correlation of a kernel's taps, (taps, taps), which falls with their distance."""
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).float()
    return neighbours ** torch.cdist(places, places)


def _cancelled(errors: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """Rounding errors, (kernels, taps), after turning those whose turn reduces the error of the output.

    Coordinate descent on errorᵀ · covariance · error, the mean squared error that they add to the output.
    """
    errors = errors.clone()
    slope = errors @ covariance
    for _ in range(_PASSES):
        for tap in range(errors.shape[1]):
            turn = -errors[:, tap].sign()  # a weight that is a whole number stays
            change = turn * ((2 * turn * slope[:, tap] + covariance[tap, tap] * turn**2) < -1e-6)
            errors[:, tap] += change
            slope += change[:, None] * covariance[tap]
    return errors
