"""The networks that can be exported, as tables. To add a network, add a table here; nothing else changes.

The keys are those of torchvision's state dicts, so that its weights, and weights fine-tuned from them, fit unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edge.errors import BundleError
from edge.workshop.export.network.operations import (
    PIXELS,
    Activation,
    Architecture,
    Conv,
    Gate,
    Head,
    MaxPool,
    Operation,
)

Keys = tuple[str, str]  # of a convolution's weight, and the prefix of its batch norm


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


def _inverted_residual(
    output: str,
    value: str,
    expand: Keys | None,
    depthwise: Keys,
    project: Keys,
    activation: Activation,
    *,
    stride: int,
    padding: tuple[int, int],  # of the depthwise convolution
    residual: bool,
    gate: Gate | None = None,
) -> Iterator[Conv]:
    """Expansion to many channels, depthwise convolution, perhaps a gate, and projection to few channels."""
    inner, deep = value, f"{output}.deep"
    if expand:
        inner = f"{output}.expand"
        yield Conv(inner, value, *expand, activation)
    yield Conv(deep, inner, *depthwise, activation, stride=stride, padding=padding, depthwise=True, gate=gate)
    yield Conv(output, deep, *project, residual=value if residual else "")


def _pair(prefix: str) -> Keys:
    """The keys of torchvision's Conv2dNormActivation."""
    return f"{prefix}.0.weight", f"{prefix}.1"


def _same(kernel: int) -> tuple[int, int]:
    return kernel // 2, kernel // 2


# Stages of MobileNetV2: expansion, output channels, blocks, first stride.
_MOBILENET_V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                 (6, 320, 1, 1))  # fmt: skip


def mobilenet_v2() -> Architecture:
    """torchvision's MobileNetV2."""
    operations: list[Operation] = [Conv("stem", PIXELS, *_pair("features.0"), "relu6", stride=2)]
    value, channels, number = "stem", 32, 1
    for expansion, width, depth, first_stride in _MOBILENET_V2:
        for repeat in range(depth):
            output, stride = f"features.{number}", first_stride if repeat == 0 else 1
            key, last = f"{output}.conv", 1 if expansion == 1 else 2
            operations += _inverted_residual(
                output,
                value,
                _pair(f"{key}.0") if expansion > 1 else None,
                _pair(f"{key}.{last - 1}"),
                (f"{key}.{last}.weight", f"{key}.{last + 1}"),
                "relu6",
                stride=stride,
                padding=_same(3),
                residual=stride == 1 and width == channels,
            )
            value, channels, number = output, width, number + 1
    operations += [Conv("last", value, *_pair("features.18"), "relu6"), Head("last", "classifier.1")]
    return Architecture("mobilenet_v2", tuple(operations), border=(1, 1))


# Blocks of MobileNetV3-Large: kernel, expanded channels, output channels, gated, activation, stride.
_MOBILENET_V3: tuple[tuple[int, int, int, bool, Activation, int], ...] = (
    (3, 16, 16, False, "relu", 1), (3, 64, 24, False, "relu", 2), (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2), (5, 120, 40, True, "relu", 1), (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hardswish", 2), (3, 200, 80, False, "hardswish", 1), (3, 184, 80, False, "hardswish", 1),
    (3, 184, 80, False, "hardswish", 1), (3, 480, 112, True, "hardswish", 1), (3, 672, 112, True, "hardswish", 1),
    (5, 672, 160, True, "hardswish", 2), (5, 960, 160, True, "hardswish", 1), (5, 960, 160, True, "hardswish", 1),
)  # fmt: skip


def mobilenet_v3_large() -> Architecture:
    """torchvision's MobileNetV3-Large."""
    operations: list[Operation] = [Conv("stem", PIXELS, *_pair("features.0"), "hardswish", stride=2)]
    value, channels = "stem", 16
    for number, (kernel, expanded, width, gated, activation, stride) in enumerate(_MOBILENET_V3, 1):
        output = f"features.{number}"
        gate: tuple[Activation, Activation] | None = ("relu", "hardsigmoid") if gated else None
        residual = stride == 1 and width == channels
        operations += _torchvision_block(
            output, value, expanded > channels, activation, kernel, stride, gate, residual=residual
        )
        value, channels = output, width
    operations.append(Conv("last", value, *_pair("features.16"), "hardswish"))
    operations.append(Head("last", "classifier.3", hidden="classifier.0", activation="hardswish"))
    return Architecture("mobilenet_v3_large", tuple(operations), border=(1, 1), norm_epsilon=1e-3)


def _torchvision_block(
    output: str,
    value: str,
    expands: bool,
    activation: Activation,
    kernel: int,
    stride: int,
    gate: tuple[Activation, Activation] | None,
    *,
    residual: bool,
) -> Iterator[Conv]:
    """For MobileNetV3 and EfficientNet, which number a block's parts: expansion, depthwise, gate, projection."""
    key, deep = f"{output}.block", 1 if expands else 0
    return _inverted_residual(
        output,
        value,
        _pair(f"{key}.0") if expands else None,
        _pair(f"{key}.{deep}"),
        _pair(f"{key}.{deep + (2 if gate else 1)}"),
        activation,
        stride=stride,
        padding=_same(kernel),
        residual=residual,
        gate=Gate(f"{key}.{deep + 1}.fc1", f"{key}.{deep + 1}.fc2", *gate) if gate else None,
    )


# Stages of EfficientNet-B0 and -Lite0: blocks, kernel, first stride, expansion, output channels.
_EFFICIENTNET = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
                 (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))  # fmt: skip


def efficientnet_b0() -> Architecture:
    """torchvision's EfficientNet-B0."""
    operations: list[Operation] = [Conv("stem", PIXELS, *_pair("features.0"), "silu", stride=2)]
    value, channels = "stem", 32
    for stage, (depth, kernel, first_stride, expansion, width) in enumerate(_EFFICIENTNET, 1):
        for repeat in range(depth):
            output, stride = f"features.{stage}.{repeat}", first_stride if repeat == 0 else 1
            residual = stride == 1 and width == channels
            operations += _torchvision_block(
                output, value, expansion > 1, "silu", kernel, stride, ("silu", "sigmoid"), residual=residual
            )
            value, channels = output, width
    operations += [Conv("last", value, *_pair("features.8"), "silu"), Head("last", "classifier.1")]
    return Architecture("efficientnet_b0", tuple(operations), border=(1, 1), interpolation="bicubic")


def efficientnet_lite0() -> Architecture:
    """EfficientNet-Lite0 with the state-dict keys of the PyPI package `efficientnet-lite-pytorch`.

    Its input is (pixel − 127) / 128; with ImageNet's mean and standard deviation it loses 4.6 points.
    """
    operations: list[Operation] = [Conv("stem", PIXELS, "_conv_stem.weight", "_bn0", "relu6", stride=2)]
    value, channels, number = "stem", 32, 0
    for depth, kernel, first_stride, expansion, width in _EFFICIENTNET:
        for repeat in range(depth):
            key, stride = f"_blocks.{number}", first_stride if repeat == 0 else 1
            operations += _inverted_residual(
                key,
                value,
                (f"{key}._expand_conv.weight", f"{key}._bn0") if expansion > 1 else None,
                (f"{key}._depthwise_conv.weight", f"{key}._bn1"),
                (f"{key}._project_conv.weight", f"{key}._bn2"),
                "relu6",
                stride=stride,
                # TensorFlow's SAME: with a stride of 2 and an even size the odd pixel of padding is after the picture.
                padding=_same(kernel) if stride == 1 else (kernel // 2 - 1, kernel // 2),
                residual=stride == 1 and width == channels,
            )
            value, channels, number = key, width, number + 1
    operations += [Conv("head", value, "_conv_head.weight", "_bn1", "relu6"), Head("head", "_fc")]
    centre, spread = (127 / 255,) * 3, (128 / 255,) * 3
    return Architecture("efficientnet_lite0", tuple(operations), (0, 1), mean=centre, std=spread, norm_epsilon=1e-3)


ARCHITECTURES: dict[str, Callable[[], Architecture]] = {
    "resnet18": lambda: resnet("resnet18", (2, 2, 2, 2), bottleneck=False),
    "resnet34": lambda: resnet("resnet34", (3, 4, 6, 3), bottleneck=False),
    "resnet50": lambda: resnet("resnet50", (3, 4, 6, 3), bottleneck=True),
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3_large": mobilenet_v3_large,
    "efficientnet_b0": efficientnet_b0,
    "efficientnet_lite0": efficientnet_lite0,
}


def architecture(name: str) -> Architecture:
    """The table of a network.

    Raises:
        BundleError: the name is unknown.
    """
    if name not in ARCHITECTURES:
        raise BundleError(f"There is no architecture {name}; choose from {', '.join(ARCHITECTURES)}.")
    return ARCHITECTURES[name]()
