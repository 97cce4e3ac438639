"""What ncnn's `ncnn2table` and `ncnn2int8` do, which its wheel does not bring: a convolution-only INT8 ncnn model.

Weights per output channel, activations per tensor over the largest magnitude seen, and convolutions that feed only
another convolution hand it INT8 without a float in between (`int8_scale_term` above 100).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import ncnn
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
INT8_TAG = 0x000D4B38  # ncnn's modelbin.cpp: raw INT8 weights follow
OUTPUT_CHANNELS, BIAS, WEIGHTS, SCALE_TERM = 0, 5, 6, 8  # keys of a layer's parameters


@dataclass
class Layer:
    """One line of a .param file, with what the .bin file holds for it."""

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    parameters: dict[int, str]
    weight: Floats | None = None
    bias: Floats | None = None

    def line(self) -> str:
        """The line as ncnn reads it."""
        blobs = [*self.inputs, *self.outputs]
        numbers = [f"{key}={value}" for key, value in self.parameters.items()]
        return " ".join([self.kind, self.name, str(len(self.inputs)), str(len(self.outputs)), *blobs, *numbers])


def quantize(param: Path, binary: Path, photos: Iterable[Floats], into: Path) -> None:
    """Write `into`.param and `into`.bin, the INT8 form of an FP32 network that pnnx wrote with fp16=0."""
    head, layers = _read(param, binary)
    convolutions = [layer for layer in layers if layer.kind == "Convolution"]
    largest = _largest_inputs(param, binary, convolutions, photos)
    with into.with_suffix(".bin").open("wb") as file:
        for layer in layers:
            if layer.weight is None:
                continue
            assert layer.bias is not None
            if layer.kind != "Convolution":  # the last layer stays float, as in this project's bundle
                file.write(np.uint32(0).tobytes() + layer.weight.tobytes() + layer.bias.tobytes())
                continue
            rows = layer.weight.reshape(int(layer.parameters[OUTPUT_CHANNELS]), -1)
            scales = (127 / np.abs(rows).max(1).clip(1e-12)).astype(np.float32)
            integers = np.rint(rows * scales[:, None]).clip(-127, 127).astype(np.int8)
            file.write(np.uint32(INT8_TAG).tobytes() + integers.tobytes().ljust(-(-integers.size // 4) * 4, b"\0"))
            file.write(layer.bias.tobytes() + scales.tobytes() + np.float32(127 / largest[layer.name]).tobytes())
            consumers = [other for other in layers if layer.outputs[0] in other.inputs]
            follows = consumers[0] if len(consumers) == 1 and consumers[0].kind == "Convolution" else None
            layer.parameters[SCALE_TERM] = "102" if follows else "2"
            if follows:
                file.write(np.float32(127 / largest[follows.name]).tobytes())
    into.with_suffix(".param").write_text("\n".join([*head, *(layer.line() for layer in layers)]) + "\n")


def _read(param: Path, binary: Path) -> tuple[list[str], list[Layer]]:
    lines = param.read_text().splitlines()
    content, at = binary.read_bytes(), 0
    layers = []

    def take(count: int) -> Floats:
        nonlocal at
        values = np.frombuffer(content, np.float32, count, at)
        at += 4 * count
        return values

    for line in lines[2:]:
        kind, name, inputs, outputs, *rest = line.split()
        middle, end = int(inputs), int(inputs) + int(outputs)
        parameters = {int(key): value for key, value in (item.split("=") for item in rest[end:])}
        layer = Layer(kind, name, rest[:middle], rest[middle:end], parameters)
        if kind in ("Convolution", "InnerProduct"):
            key_bias, key_weights = (BIAS, WEIGHTS) if kind == "Convolution" else (1, 2)
            assert parameters[key_bias] == "1"
            assert take(1)[0] == 0, "only FP32 weights can be read; run pnnx with fp16=0"
            layer.weight = take(int(parameters[key_weights]))
            layer.bias = take(int(parameters[OUTPUT_CHANNELS]))
        layers.append(layer)
    assert at == len(content)
    return lines[:2], layers


def _largest_inputs(param: Path, binary: Path, convolutions: list[Layer], photos: Iterable[Floats]) -> dict[str, float]:
    """The largest magnitude of each convolution's input over the photos, by the convolution's name."""
    network = ncnn.Net()
    network.opt.use_vulkan_compute = False
    network.opt.lightmode = False  # keep every blob
    network.load_param(str(param))
    network.load_model(str(binary))
    largest = dict.fromkeys((layer.name for layer in convolutions), 1e-6)
    for photo in photos:
        extractor = network.create_extractor()
        extractor.input("in0", ncnn.Mat(photo[0]))
        for layer in convolutions:
            _, blob = extractor.extract(layer.inputs[0])
            largest[layer.name] = max(largest[layer.name], float(np.abs(np.array(blob)).max()))
    return largest
