"""Tests that weights are rounded so that their errors cancel out in flat patches, and none moves by a whole step."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)

from edge.workshop.export.quantize.rounding import rounded, weight_scales


def noise(weight: torch.Tensor, whole: torch.Tensor, scales: torch.Tensor, inputs: torch.Tensor) -> float:
    """The mean square of the error that rounding adds to the outputs, without its mean, which the bias corrects."""
    added = F.conv2d(inputs, whole * scales[:, None, None, None] - weight)
    return float(added.var(dim=(0, 2, 3)).mean())


@pytest.mark.parametrize("small_pairs", [False, True])
@pytest.mark.parametrize("shape", [(16, 3, 7, 7), (24, 32, 3, 3), (32, 1, 5, 5), (8, 16, 1, 1)])
def test_no_weight_moves_by_a_whole_step(shape: tuple[int, ...], small_pairs: bool) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape)
    scales = weight_scales(weight, small_pairs=small_pairs)
    whole = rounded(weight, scales, pixels=shape[1] == 3)
    assert whole.dtype == torch.int8
    assert float((whole - weight / scales[:, None, None, None]).abs().max()) < 1
    if shape[2:] == (1, 1):  # with one tap nothing can cancel out, so nearest rounding is best
        assert torch.equal(whole, (weight / scales[:, None, None, None]).round().to(torch.int8))


def test_what_is_flat_meets_less_noise_than_with_nearest_rounding() -> None:
    """Photos are flat nearly everywhere; on noise the two ways hardly differ."""
    torch.manual_seed(1)
    rough = torch.rand(16, 3, 40, 40)
    flat = F.interpolate(torch.rand(16, 1, 4, 4), size=(40, 40), mode="bicubic") + 0.1 * rough
    weight = torch.randn(64, 3, 7, 7)
    scales = weight_scales(weight, small_pairs=False)
    whole, nearest = rounded(weight, scales, pixels=True), (weight / scales[:, None, None, None]).round()
    assert noise(weight, whole, scales, flat) < 0.2 * noise(weight, nearest, scales, flat)
    assert noise(weight, whole, scales, rough) < 2 * noise(weight, nearest, scales, rough)
