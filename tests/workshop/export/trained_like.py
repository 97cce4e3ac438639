"""Networks with random weights that behave like trained ones where it matters for INT8.

Their batch norms have the statistics of their real inputs, a branch adds less than the trunk has, and the head is sure
of the golden photo. Their classes mean nothing.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torchvision.models import get_model

from edge.photos.decode import read_photo
from edge.vision.manifest import Origin
from edge.workshop.export.exporter import buffer_of
from edge.workshop.export.judge.views import GOLDEN_PHOTO
from edge.workshop.export.network.architectures import ARCHITECTURES
from edge.workshop.export.network.batch_norm_folding import fold_batch_norms
from edge.workshop.export.network.float_network import FloatHead
from edge.workshop.export.network.operations import Architecture, Conv, Head
from edge.workshop.export.weights.state_dict import Weights

BRANCH = 0.4  # of the scale that the other batch norms have
SPREAD = 1.5  # standard deviation of the golden photo's logits


def trained_like(name: str, photos: Sequence[Path], classes: int = 1000) -> Weights:
    """A state dict of torchvision's `name`, always the same; its batch norms have seen `photos`."""
    table = ARCHITECTURES[name]()
    torch.manual_seed(0)
    network = get_model(name, weights=None, num_classes=classes).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train().momentum = 1.0  # takes the statistics of the next batch
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
    for operation in table.operations:
        if isinstance(operation, Conv) and operation.residual:
            network.get_parameter(f"{operation.norm}.weight").data *= BRANCH
    with torch.inference_mode():
        network(_normalised(table, photos))
    state = {key: value.clone() for key, value in network.state_dict().items()}
    _be_sure(table, state)
    return Weights(name, state, Origin(source="random", sha256="", license="none"))


def _normalised(table: Architecture, photos: Sequence[Path]) -> torch.Tensor:
    contract = table.contract
    low, size = table.border[0], table.size
    batch = torch.cat([torch.from_numpy(buffer_of(read_photo(photo), contract)) for photo in photos])
    mean, std = (torch.tensor(value)[:, None, None] for value in (table.mean, table.std))
    return (batch[:, low : low + size, low : low + size].permute(0, 3, 1, 2).float() / 255 - mean) / std


def _be_sure(table: Architecture, state: dict[str, torch.Tensor]) -> None:
    """Spread the logits, and raise the golden photo's first class, because a golden photo needs a clear lead."""
    network = fold_batch_norms(table, state)
    head, linear = network.operations[-1], table.operations[-1]
    assert isinstance(head, FloatHead)
    assert isinstance(linear, Head)
    with torch.inference_mode():
        golden = torch.from_numpy(buffer_of(read_photo(GOLDEN_PHOTO), table.contract))
        values = dict(network.values(golden))
        logits = head.logits(values[linear.input].mean((2, 3)))[0]
    scale = SPREAD / float(logits.std())
    state[f"{linear.linear}.weight"] *= scale
    state[f"{linear.linear}.bias"] *= scale
    state[f"{linear.linear}.bias"][logits.argmax()] += 6
