"""A ResNet of a few thousand weights, for tests that run it in plain C."""

import dataclasses

import torch

from edge.workshop.export.network.architectures import resnet
from edge.workshop.export.network.batch_norm_folding import fold_batch_norms
from edge.workshop.export.network.float_network import FloatNetwork
from edge.workshop.export.network.operations import PIXELS, Conv
from edge.workshop.export.quantize.ranges import Range, calibrated_ranges

SIDE = 38  # of the buffer, its border included
WIDTHS = (8, 16, 16, 32)
FEATURES = WIDTHS[-1]


def small_resnet(seed: int, *, bottleneck: bool = False) -> FloatNetwork:
    """One block a stage, with random weights; with `bottleneck` a block is as ResNet-50's, with 1 × 1 kernels."""
    architecture = dataclasses.replace(resnet("small", (1, 1, 1, 1), bottleneck=bottleneck), size=32, resize=32)
    random = torch.Generator().manual_seed(seed)
    channels = {PIXELS: 3, "pool": WIDTHS[0]}
    state: dict[str, torch.Tensor] = {}
    for operation in architecture.operations:
        if not isinstance(operation, Conv):
            continue
        stage = operation.output.removeprefix("layer")[0]
        width = WIDTHS[int(stage) - 1] if stage.isdigit() else WIDTHS[0]
        if bottleneck and (operation.residual or operation.output.endswith("shortcut")):
            width *= 4
        kernel = 7 if operation.input == PIXELS else 2 * operation.padding[0] + 1
        shape = (width, channels[operation.input], kernel, kernel)
        state[operation.weight] = torch.randn(shape, generator=random) / (shape[1] * kernel**2) ** 0.5
        state[f"{operation.norm}.weight"] = 0.5 + torch.rand(width, generator=random)
        state[f"{operation.norm}.bias"] = 0.3 * torch.randn(width, generator=random)
        state[f"{operation.norm}.running_mean"] = torch.zeros(width)
        state[f"{operation.norm}.running_var"] = torch.ones(width)
        channels[operation.output] = width
    state["fc.weight"] = torch.randn((5, channels["layer4.0"]), generator=random)
    state["fc.bias"] = torch.zeros(5)
    return fold_batch_norms(architecture, state)


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    """Random pixels (count, SIDE, SIDE, 3) uint8."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, SIDE, SIDE, 3), generator=random, dtype=torch.uint8)


def ranges_of(network: FloatNetwork) -> dict[str, Range]:
    """The ranges on a few random pictures."""
    return calibrated_ranges(network, pictures(4, seed=1).split(1))
