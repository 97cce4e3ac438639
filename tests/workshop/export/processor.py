"""A stand-in for a GPU: it computes on the processor, in FP32 where a GPU has FP16."""

import torch

from edge.workshop.export.quantize.gpu_network import NoEngineError


class Processor:
    """An `export.quantize.gpu_network.Gpu`; its engine, if it has one, is the graph that TensorRT would be given."""

    dtype = torch.float32
    place = "cpu"

    def __init__(self, *, tensorrt: bool) -> None:
        self._tensorrt = tensorrt
        self.given: torch.jit.ScriptModule | None = None

    def engine(self, traced: torch.jit.ScriptModule, example: torch.Tensor) -> torch.jit.ScriptModule:
        self.given = traced
        if not self._tensorrt:
            raise NoEngineError("TensorRT is broken")
        return traced
