"""Every engine behind one interface: pixels become an input, an input becomes the scores of the classes.

Each is used as its documentation shows, with its usual preprocessing. Imports are inside, because each engine runs in
a process that has imported no other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.networks import SIDE, Floats, normalised, torchvision_resnet18
from edge.frames import Pixels


class Engine(ABC):
    """One engine with ResNet-18 loaded."""

    @abstractmethod
    def prepare(self, pixels: Pixels) -> Any:
        """The engine's input for (height, width, 3) uint8 RGB pixels."""

    @abstractmethod
    def infer(self, prepared: Any) -> Floats:
        """(1000,) float32, logits or probabilities."""


class ThisProject(Engine):
    """The bundle, as the daemon runs it."""

    def __init__(self, models: Path, weights: Path, threads: int) -> None:
        del weights
        from edge.settings.schema import ModelSettings
        from edge.vision.bundle import load_bundle
        from edge.vision.classifier import Classifier

        self._classifier = Classifier(load_bundle(models / "bundle"), ModelSettings(threads=threads))
        self._reused = self._classifier.new_input()
        self.fresh = False  # True: each input is kept, so that it may be measured alone later

    def prepare(self, pixels: Pixels) -> Any:
        """One resize into a padded uint8 buffer."""
        into = self._classifier.new_input() if self.fresh else self._reused
        self._classifier.prepare(pixels, into)
        return into

    def infer(self, prepared: Any) -> Floats:
        """Probabilities."""
        return self._classifier.infer(prepared)


class Torch(Engine):
    """FP32 torch with torchvision's transforms on a PIL image."""

    def __init__(self, models: Path, weights: Path, threads: int) -> None:
        import torch
        from torchvision import transforms

        torch.set_num_threads(threads)
        self._torch = torch
        self._transform = transforms.Compose(
            [
                transforms.Resize(256),
                transforms.CenterCrop(SIDE),
                transforms.ToTensor(),
                transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )
        self._network = self._load(models, weights)

    def _load(self, models: Path, weights: Path) -> Any:
        return torchvision_resnet18(weights)

    def prepare(self, pixels: Pixels) -> Any:
        """What the seeds and the tutorials do."""
        from PIL import Image

        return self._transform(Image.fromarray(pixels)).unsqueeze(0)

    def infer(self, prepared: Any) -> Floats:
        """Logits."""
        with self._torch.inference_mode():
            logits: Floats = self._network(prepared)[0].numpy()
        return logits


class TorchScript(Torch):
    """FP32, traced."""

    def _load(self, models: Path, weights: Path) -> Any:
        return self._torch.jit.load(str(models / "fp32.ts")).eval()


class FrozenTorchScript(Torch):
    """FP32, traced, frozen and optimised: batch norms folded, oneDNN's blocked layouts."""

    def _load(self, models: Path, weights: Path) -> Any:
        return self._torch.jit.optimize_for_inference(self._torch.jit.load(str(models / "fp32.ts")).eval())


class OnnxRuntime(Engine):
    """ONNX Runtime's CPU provider."""

    file = "fp32.onnx"

    def __init__(self, models: Path, weights: Path, threads: int) -> None:
        del weights
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(models / self.file), options, providers=["CPUExecutionProvider"]
        )

    def prepare(self, pixels: Pixels) -> Any:
        """OpenCV and NumPy."""
        return normalised(pixels)

    def infer(self, prepared: Any) -> Floats:
        """Logits."""
        logits: Floats = self._session.run(None, {"input": prepared})[0][0]
        return logits


class OnnxRuntimeInt8(OnnxRuntime):
    """QDQ, per channel."""

    file = "int8.onnx"


class OpenVino(Engine):
    """OpenVINO's CPU plug-in on the same QDQ network."""

    file = "int8.onnx"

    def __init__(self, models: Path, weights: Path, threads: int) -> None:
        del weights
        import openvino

        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        self._model = openvino.Core().compile_model(str(models / self.file), "CPU", hints)
        self._request = self._model.create_infer_request()

    def prepare(self, pixels: Pixels) -> Any:
        """OpenCV and NumPy."""
        return normalised(pixels)

    def infer(self, prepared: Any) -> Floats:
        """Logits."""
        logits: Floats = self._request.infer({0: prepared}, share_inputs=True)[0][0]
        return logits


class Ncnn(Engine):
    """ncnn with its own resize and normalisation."""

    file = "ncnn.ncnn"

    def __init__(self, models: Path, weights: Path, threads: int) -> None:
        del weights
        import ncnn

        self._ncnn = ncnn
        self._network = ncnn.Net()
        self._network.opt.num_threads = threads
        self._network.opt.use_vulkan_compute = False
        self._network.load_param(str(models / f"{self.file}.param"))
        self._network.load_model(str(models / f"{self.file}.bin"))

    def prepare(self, pixels: Pixels) -> Any:
        """Centre, resize and normalise, all in ncnn."""
        height, width = pixels.shape[:2]
        side = min(height, width) * SIDE // 256
        top, left = (height - side) // 2, (width - side) // 2
        mat = self._ncnn.Mat.from_pixels_roi_resize(
            pixels, self._ncnn.Mat.PixelType.PIXEL_RGB, width, height, left, top, side, side, SIDE, SIDE
        )
        mat.substract_mean_normalize([123.675, 116.28, 103.53], [1 / 58.395, 1 / 57.12, 1 / 57.375])
        return mat

    def infer(self, prepared: Any) -> Floats:
        """Logits."""
        with self._network.create_extractor() as extractor:
            extractor.input("in0", prepared)
            return np.array(extractor.extract("out0")[1])


class NcnnInt8(Ncnn):
    """INT8 weights and activations."""

    file = "ncnn-int8"


class ExecuTorch(Engine):
    """ExecuTorch with XNNPACK, INT8."""

    def __init__(self, models: Path, weights: Path, threads: int) -> None:
        del weights, threads  # XNNPACK's pool has a thread for each CPU that the process may use
        import torch
        from executorch.runtime import Runtime

        self._torch = torch
        self._program = Runtime.get().load_program(models / "int8.pte")
        self._forward = self._program.load_method("forward")

    def prepare(self, pixels: Pixels) -> Any:
        """OpenCV and NumPy."""
        return self._torch.from_numpy(normalised(pixels))

    def infer(self, prepared: Any) -> Floats:
        """Logits."""
        logits: Floats = self._forward.execute([prepared])[0][0].numpy()
        return logits


OURS = "this project, INT8"
REFERENCE = "PyTorch FP32, eager"
ENGINES: dict[str, type[Engine]] = {
    OURS: ThisProject,
    REFERENCE: Torch,
    "TorchScript FP32": TorchScript,
    "TorchScript FP32, optimised": FrozenTorchScript,
    "ONNX Runtime FP32": OnnxRuntime,
    "ONNX Runtime INT8": OnnxRuntimeInt8,
    "OpenVINO INT8": OpenVino,
    "ncnn FP32": Ncnn,
    "ncnn INT8": NcnnInt8,
    "ExecuTorch XNNPACK INT8": ExecuTorch,
}
cv2.setNumThreads(1)  # a resize of one frame gains nothing from more, and every engine gets the same
