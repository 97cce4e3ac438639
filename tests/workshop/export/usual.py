"""The engine that tests of `export` ask for which are not about engines, so that no others are made and timed."""

import torch

from edge.board.processor import host_target

_TARGET = host_target()
_NAME = "onednn" if _TARGET == "x86_64" and "onednn" in torch.backends.quantized.supported_engines else "qnnpack"
ONE_ENGINE = ("--engine", _NAME, "--seconds", "0")
