"""What a bundle may be made for: the words of its manifest, which are read without torch."""

from typing import Literal

Target = Literal["arm64", "x86_64", "jetson"]  # a Jetson's GPU; its processor is arm64
# `onednn` has the fused residual, and is what x86 takes wherever torch has it; `qnnpack` hands qint8 to XNNPACK and
# quint8 to QNNPACK.
# On a GPU: `tensorrt` for INT8, `cuda` for FP16.
Engine = Literal["onednn", "fbgemm", "qnnpack", "tensorrt", "cuda"]
GPU_ENGINES = ("tensorrt", "cuda")
Interpolation = Literal["bilinear", "bicubic"]  # of the resize, both with antialiasing
Colour = Literal["RGB", "BGR"]  # the order of a network's input channels
Activations = Literal["quint8", "qint8", "int8"]  # int8 is TensorRT's: symmetric
