"""Weights as whole numbers: how fine the step of each output channel is, and which way each weight is rounded."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)

# How alike two values of a channel are that lie one pixel apart, and two colours of one pixel. Photos change slowly;
# what convolutions make of them keeps less of that. The figures matter little: from 0.5 to 0.9 all do.
NEIGHBOURS, PIXEL_NEIGHBOURS, COLOURS = 0.5, 0.9, 0.9
_PASSES = 3  # over all weights of a kernel; a fourth changes nothing


def weight_scales(weight: torch.Tensor, *, small_pairs: bool) -> torch.Tensor:
    """The step of each output channel, (out,), for (out, in / groups, height, width) float32.

    Without VNNI x86 multiplies two activations of up to 255 with two weights and adds the products in 16 bits
    (vpmaddubsw), which holds 32767: more than 128 for two weights of one sign would saturate. Kernels pair
    neighbours of a tap's channels, or of a channel's taps; either way they are side by side here.
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

    Each weight is rounded up or down so that a kernel's errors cancel out in what it is likely to see, which is
    neighbours that are alike: with nearest rounding a flat patch of a photo meets the sum of them all. No photo is
    needed for that (adaptive rounding with a covariance that is assumed).

    Args:
        weight: of a convolution.
        scales: as from `weight_scales`.
        pixels: whether the input is the photo, whose colours are alike too; else channels count as independent.
    """
    steps = weight / scales[:, None, None, None]
    errors = steps.round() - steps
    errors[errors.abs() < 1e-3] = 0.0  # whole already, as 127 is, beyond which there is nothing
    alike = _alike(weight.shape[2], weight.shape[3], PIXEL_NEIGHBOURS if pixels else NEIGHBOURS)
    if pixels:
        colours = torch.full((weight.shape[1],) * 2, COLOURS).fill_diagonal_(1)
        errors = _cancelled(errors.flatten(1), torch.kron(colours, alike))
    else:
        errors = _cancelled(errors.flatten(2).flatten(0, 1), alike)
    return (steps + errors.view_as(steps)).round().to(torch.int8)


def _alike(height: int, width: int, neighbours: float) -> torch.Tensor:
    """The correlation of a kernel's taps, (taps, taps), which falls with their distance."""
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).float()
    return neighbours ** torch.cdist(places, places)


def _cancelled(errors: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """Rounding errors, (kernels, taps) within half a step, after those that gain by it went to the other side.

    Coordinate descent on errorᵀ · covariance · error: what the errors add to the output, squared, on average.
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
