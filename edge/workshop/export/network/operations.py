"""The table that describes a network: a list of operations whose results have names; a residual refers to one by name.

Folding, ranges and quantization read such a table, so a network needs no code of its own. The tables are in
`architectures.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge.vision.manifest import Colour, InputContract, Interpolation, Normalization

Activation = Literal["", "relu", "relu6", "hardswish", "silu", "hardsigmoid", "sigmoid"]
PIXELS = "pixels"  # the name of the network's input
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the photos' pixels, RGB in 0..1


@dataclass(frozen=True, slots=True)
class Gate:
    """Squeeze and excitation: two small layers compute a factor for each channel from all averages."""

    squeeze: str  # prefix of the layer from all channels to few
    excite: str  # prefix of the layer from few to all
    activation: Activation  # between them
    curve: Activation  # after them, into 0..1


@dataclass(frozen=True, slots=True)
class Conv:
    """Convolution, batch norm, then a residual or a gate: `gate(act(norm(conv(input)) + residual))`."""

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
    gate: Gate | None = None


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
    """Average over all positions, linear layer, softmax; some networks have another linear layer before it."""

    input: str
    linear: str  # prefix of the linear layer in the state dict
    hidden: str = ""  # prefix of the layer before it
    activation: Activation = ""  # after that


Operation = Conv | MaxPool | Head


@dataclass(frozen=True, slots=True)
class Architecture:
    """One network and the input that it was trained on."""

    name: str
    operations: tuple[Operation, ...]
    border: tuple[int, int]  # padding of the first convolution: pixels before and after the photo, on both axes
    size: int = 224  # of the photo inside the border
    resize: int = 256  # the photo's short side before the centre of `size` is cut out
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN  # of red, green and blue in 0..1
    std: tuple[float, float, float] = IMAGENET_STD
    colour: Colour = "RGB"  # the order of the first convolution's input channels in the state dict
    norm_epsilon: float = 1e-5

    @property
    def contract(self) -> InputContract:
        """The buffer that the network takes: the border has the mean colour, which is 0 after normalization."""
        red, green, blue = (round(mean * 255) for mean in self.mean)
        return InputContract(
            size=self.size,
            resize=self.resize,
            interpolation=self.interpolation,
            border=self.border,
            border_rgb=(red, green, blue),
            normalization=Normalization(mean=self.mean, std=self.std, colour=self.colour),
        )
