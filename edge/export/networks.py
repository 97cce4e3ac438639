"""Network architectures as tables: what `fold`, `ranges` and `quantize` work on, whatever the network is called.

A network is a straight list of operations whose values have names, so a residual is a name and no
module code is needed. Adding an architecture is adding a table here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Activation = Literal["", "relu", "relu6"]
PIXELS = "pixels"  # the name of the network's input


@dataclass(frozen=True, slots=True)
class Conv:
    """Convolution, batch norm, optional residual, activation; `output = act(norm(conv(input)) + residual)`."""

    output: str
    input: str
    weight: str  # key of the convolution's weight in the state dict
    norm: str  # prefix of its batch norm
    activation: Activation = ""
    stride: int = 1
    # Zero padding before and after, on both axes. The first convolution has none: its border is in the buffer.
    padding: tuple[int, int] = (0, 0)
    depthwise: bool = False
    residual: str = ""


@dataclass(frozen=True, slots=True)
class MaxPool:
    """Maximum over `size` × `size`."""

    output: str
    input: str
    size: int
    stride: int
    padding: int


@dataclass(frozen=True, slots=True)
class Head:
    """Average over all positions, linear layer, softmax."""

    input: str
    linear: str  # prefix of the linear layer in the state dict


Operation = Conv | MaxPool | Head


@dataclass(frozen=True, slots=True)
class Architecture:
    """One network and the input that it was trained on."""

    name: str
    operations: tuple[Operation, ...]
    border: tuple[int, int]  # padding of the first convolution: pixels before and after the photo, on both axes
    size: int = 224  # of the photo inside the border
    resize: int = 256  # the photo's short side before the centre of `size` is cut out
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # ImageNet's, of pixels in 0..1
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    norm_epsilon: float = 1e-5
    # Keys of a batch norm that may be in the state dict and are not needed.
    ignored: tuple[str, ...] = field(default=("num_batches_tracked",))


def resnet(name: str, depths: tuple[int, int, int, int], *, bottleneck: bool) -> Architecture:
    """torchvision's ResNet with `depths` blocks a stage."""
    operations: list[Operation] = [
        Conv("stem", PIXELS, "conv1.weight", "bn1", "relu", stride=2),
        MaxPool("pool", "stem", size=3, stride=2, padding=1),
    ]
    value = "pool"
    for stage, depth in enumerate(depths, 1):
        for number in range(depth):
            block = f"layer{stage}.{number}"
            stride = 2 if stage > 1 and number == 0 else 1
            shortcut = value
            if stride == 2 or (bottleneck and number == 0):
                shortcut = f"{block}.shortcut"
                key = f"{block}.downsample"
                operations.append(Conv(shortcut, value, f"{key}.0.weight", f"{key}.1", stride=stride))
            # (convolution, kernel radius, stride); torchvision strides in the 3 × 3
            plan = [(1, 0, 1), (2, 1, stride), (3, 0, 1)] if bottleneck else [(1, 1, stride), (2, 1, 1)]
            inner = value
            for i, radius, step in plan:
                last = i == len(plan)
                output = block if last else f"{block}.{i}"
                operations.append(
                    Conv(
                        output,
                        inner,
                        f"{block}.conv{i}.weight",
                        f"{block}.bn{i}",
                        "relu",
                        stride=step,
                        padding=(radius, radius),
                        residual=shortcut if last else "",
                    )
                )
                inner = output
            value = block
    operations.append(Head(value, "fc"))
    return Architecture(name, tuple(operations), border=(3, 3))


# Stages of EfficientNet-Lite0: blocks, kernel, stride, expansion, output channels.
_LITE0 = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip


def efficientnet_lite0(name: str) -> Architecture:
    """EfficientNet-Lite0 with the state-dict keys of the PyPI package `efficientnet-lite-pytorch`.

    It wants (pixel − 127) / 128; with ImageNet's mean and standard deviation it loses 4.6 points.
    """
    operations: list[Operation] = [Conv("stem", PIXELS, "_conv_stem.weight", "_bn0", "relu6", stride=2)]
    value, channels, number = "stem", 32, 0
    for depth, kernel, first_stride, expansion, width in _LITE0:
        for repeat in range(depth):
            key, stride = f"_blocks.{number}", first_stride if repeat == 0 else 1
            inner = value
            if expansion > 1:
                inner = f"{key}.expand"
                operations.append(Conv(inner, value, f"{key}._expand_conv.weight", f"{key}._bn0", "relu6"))
            # TensorFlow's SAME: on an even size a stride of 2 has the odd pixel of padding after the picture.
            padding = (kernel // 2, kernel // 2) if stride == 1 else (kernel // 2 - 1, kernel // 2)
            deep = f"{key}.deep"
            operations.append(
                Conv(
                    deep,
                    inner,
                    f"{key}._depthwise_conv.weight",
                    f"{key}._bn1",
                    "relu6",
                    stride=stride,
                    padding=padding,
                    depthwise=True,
                )
            )
            residual = value if stride == 1 and width == channels else ""
            operations.append(Conv(key, deep, f"{key}._project_conv.weight", f"{key}._bn2", residual=residual))
            value, channels, number = key, width, number + 1
    operations += [Conv("head", value, "_conv_head.weight", "_bn1", "relu6"), Head("head", "_fc")]
    centre, spread = (127 / 255,) * 3, (128 / 255,) * 3
    return Architecture(name, tuple(operations), (0, 1), mean=centre, std=spread, norm_epsilon=1e-3)


ARCHITECTURES: dict[str, Callable[[], Architecture]] = {
    "resnet18": lambda: resnet("resnet18", (2, 2, 2, 2), bottleneck=False),
    "resnet34": lambda: resnet("resnet34", (3, 4, 6, 3), bottleneck=False),
    "resnet50": lambda: resnet("resnet50", (3, 4, 6, 3), bottleneck=True),
    "efficientnet_lite0": lambda: efficientnet_lite0("efficientnet_lite0"),
}
