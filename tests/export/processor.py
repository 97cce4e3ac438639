"""A GPU for tests that have none: it computes on the processor, in FP32 where a GPU has FP16."""

import torch

from edge.events import Probabilities
from edge.vision.bundle import InputContract
from edge.vision.engine import Engine
from edge.vision.preprocess import InputBuffer, new_buffer
from edge.vision.torch_compat import load_script


class Processor:
    """An `export.gpu.Gpu`; its engine, if it is to have one, is the graph that TensorRT would be given."""

    dtype = torch.float32
    place = "cpu"

    def __init__(self, *, tensorrt: bool) -> None:
        self._tensorrt = tensorrt
        self.given: torch.jit.ScriptModule | None = None

    def engine(self, traced: torch.jit.ScriptModule, example: torch.Tensor) -> torch.jit.ScriptModule | None:
        self.given = traced
        return traced if self._tensorrt else None


class FakeCuda:
    """A `vision.device.Device` that knows which engine it was made for."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def load(self, model_bytes: bytes) -> torch.jit.ScriptModule:
        return load_script(model_bytes)

    def new_buffer(self, contract: InputContract) -> InputBuffer:
        return new_buffer(contract)

    def infer(self, model: torch.jit.ScriptModule, buffer: InputBuffer) -> Probabilities:
        with torch.inference_mode():
            probabilities: Probabilities = model(buffer.tensor)[0].numpy()
        return probabilities
