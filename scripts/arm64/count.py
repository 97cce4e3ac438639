"""Run inference with this project and other runtimes on ARM64; `scripts/test-arm64` calls this under the counter.

usage: count.py CPU MODELS CLASS,CLASS... PHOTO...

MODELS is a folder with this project's bundles, as export.py makes them, and the files of other runtimes that could
be made. A CLASS is the one that this project gives a photo on x86. For each engine a warm-up and one inference for each
photo are counted, from raw uint8 pixels of the engine's size to the probabilities of the classes. Exits with 1 if an
engine of this project gave a photo another class, otherwise with 0.
"""

import ctypes
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.engines import Engine, NcnnInt8, OnnxRuntimeInt8, ThisProject
from benchmarks.networks import MEAN, SIDE, STD, Floats, cropped
from edge.frames import Pixels
from edge.photos.decode import read_photo

COUNTER = 12345  # the system call that counter.c watches: an even number begins a part, the next odd number ends it
libc = ctypes.CDLL(None)


def planes(pixels: Pixels) -> Floats:
    """(1, 3, 224, 224) normalised float32 of (224, 224, 3) uint8, with the fewest instructions that were found."""
    normalised = np.empty((1, 3, SIDE, SIDE), np.float32)
    for channel, plane in enumerate(normalised[0]):
        np.multiply(pixels[:, :, channel], 1 / (255 * STD[channel]), out=plane)
        np.subtract(plane, MEAN[channel] / STD[channel], out=plane)
    return normalised


def softmax(logits: Floats) -> Floats:
    """Probabilities of (1000,) logits."""
    exponentials = np.exp(logits - logits.max())
    probabilities: Floats = exponentials / exponentials.sum()
    return probabilities


class OnnxRuntime(OnnxRuntimeInt8):
    """QDQ with signed activations."""

    file = "int8-arm64.onnx"

    def prepare(self, pixels: Pixels) -> Any:
        """Raw pixels."""
        return np.ascontiguousarray(cropped(pixels))

    def infer(self, prepared: Any) -> Floats:
        """Probabilities."""
        return softmax(super().infer(planes(prepared)))


class Ncnn(NcnnInt8):
    """INT8, with its own normalisation."""

    def prepare(self, pixels: Pixels) -> Any:
        """Raw pixels."""
        return np.ascontiguousarray(cropped(pixels))

    def infer(self, prepared: Any) -> Floats:
        """Probabilities."""
        mat = self._ncnn.Mat.from_pixels(prepared, self._ncnn.Mat.PixelType.PIXEL_RGB, SIDE, SIDE)
        mat.substract_mean_normalize(list(255 * MEAN), list(1 / (255 * STD)))
        return softmax(super().infer(mat))


class ExecuTorch(Engine):
    """XNNPACK INT8; without `executorch.runtime`, which imports the whole compiler."""

    def __init__(self, models: Path, weights: Path, threads: int) -> None:
        del weights
        from executorch.extension.pybindings import _portable_lib as runtime

        runtime._unsafe_reset_threadpool(threads)
        self._module = runtime._load_for_executorch(str(models / "int8.pte"))

    def prepare(self, pixels: Pixels) -> Any:
        """Raw pixels."""
        return np.ascontiguousarray(cropped(pixels))

    def infer(self, prepared: Any) -> Floats:
        """Probabilities."""
        return softmax(self._module.forward([torch.from_numpy(planes(prepared))])[0][0].numpy())


class Xnnpack(ThisProject):
    """One of this project's bundles, with a buffer for each photo."""

    bundle = "edge-classifier-xnnpack"

    def __init__(self, models: Path, weights: Path, threads: int) -> None:
        super().__init__(models / self.bundle, weights, threads)
        self.fresh = True


class Kernels(Xnnpack):
    """The kernels of `edge/kernels`."""

    bundle = "edge-classifier-kernels"


class WithOnnxRuntime(Xnnpack):
    """ONNX Runtime, with the trunk that this project writes for it."""

    bundle = "edge-classifier-onnxruntime"


OURS: tuple[type[Xnnpack], ...] = (Xnnpack, Kernels, WithOnnxRuntime)
ENGINES: dict[str, type[Engine]] = {
    **{engine.bundle: engine for engine in OURS},
    "onnxruntime-int8": OnnxRuntime,
    "ncnn-int8": Ncnn,
    "executorch-xnnpack-int8": ExecuTorch,
}
# Its wheel has instructions that a Cortex-A72 lacks, which would end the process.
LEFT_OUT = {("cortex-a72", "executorch-xnnpack-int8")}


def main() -> int:
    """Count every engine, and compare its classes with those of x86."""
    cpu, models, classes, *files = sys.argv[1:]
    torch.set_num_threads(1)
    photos = [read_photo(Path(file)) for file in files]
    expected = [int(index) for index in classes.split(",")]
    right = True
    for name, make in ENGINES.items():
        if (cpu, name) in LEFT_OUT:
            print(f"left-out {cpu} {name} illegal instruction", flush=True)
            continue
        try:
            engine = make(Path(models), Path(), 1)
            agreed = sum(map(int.__eq__, _count(name, engine, photos), expected))
        except Exception as error:  # a runtime that does not work here is named, and the others are counted
            if issubclass(make, ThisProject):
                raise
            print(f"left-out {cpu} {name} {type(error).__name__}: {error}", flush=True)
            continue
        print(f"agreement {cpu} {name} {agreed}/{len(photos)}", flush=True)
        right = right and (agreed == len(photos) or not issubclass(make, ThisProject))  # none of them is a near tie
    return 0 if right else 1


def _count(name: str, engine: Engine, photos: list[Pixels]) -> list[int]:
    """Count a warm-up, mark 0, and one inference for each photo, marks 2, 4, ...; returns their best classes."""
    prepared = [engine.prepare(pixels) for pixels in photos]
    first = []
    print(f"engine {name}", flush=True)
    for number, buffer in enumerate([prepared[-1], *prepared]):
        libc.syscall(COUNTER, 2 * number)
        scores = engine.infer(buffer)
        libc.syscall(COUNTER, 2 * number + 1)
        first.append(int(scores.argmax()))
    return first[1:]


if __name__ == "__main__":
    sys.exit(main())
