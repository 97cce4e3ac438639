"""The values that a bundle's manifest may have for target, engine and input; imports neither torch nor pydantic."""

from typing import Literal

Target = Literal["arm64", "x86_64", "jetson"]  # jetson: its GPU (experimental); its processor is arm64
# x86 prefers `onednn`, which fuses the residual addition; `qnnpack` runs qint8 with XNNPACK and quint8 with QNNPACK.
# GPUs (experimental) use `tensorrt` for INT8 and `cuda` for FP16.
Engine = Literal["onednn", "fbgemm", "qnnpack", "tensorrt", "cuda"]
GPU_ENGINES = ("tensorrt", "cuda")
Interpolation = Literal["bilinear", "bicubic"]  # of the resize, both with antialiasing
Colour = Literal["RGB", "BGR"]  # the order of a network's input channels
Activations = Literal["quint8", "qint8", "int8"]  # int8 is TensorRT's: symmetric
