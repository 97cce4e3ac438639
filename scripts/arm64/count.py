"""Run inference with this project and other runtimes on ARM64; `scripts/test-arm64` calls this under the counter.

usage: count.py CPU WEIGHTS MODELS CLASS,CLASS... PHOTO...

MODELS is a folder: the bundle is made in it, and it holds the other runtimes' files that could be made. A CLASS is the
one that this project gives a photo on x86. After a warm-up, one inference is counted for each engine and photo. This
project's starts from raw uint8 pixels; those of the others start from normalised pixels: normalising is not counted.
Exits with 0 when this project gave every photo its CLASS, otherwise with 1.
"""

import ctypes
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.engines import Engine, NcnnInt8, OnnxRuntimeInt8, ThisProject
from benchmarks.networks import Floats, normalised
from edge.frames import Pixels
from edge.photos.decode import read_photo
from edge.workshop.export.exporter import export_bundle
from edge.workshop.export.weights.state_dict import read_weights

COUNTER = 12345  # the system call that the counter watches; its argument numbers the place
libc = ctypes.CDLL(None)


class OnnxRuntime(OnnxRuntimeInt8):
    """QDQ with signed activations."""

    file = "int8-arm64.onnx"


class ExecuTorch(Engine):
    """XNNPACK INT8; without `executorch.runtime`, which imports the whole compiler."""

    def __init__(self, models: Path, weights: Path, threads: int) -> None:
        del weights
        from executorch.extension.pybindings import _portable_lib as runtime

        runtime._unsafe_reset_threadpool(threads)
        self._module = runtime._load_for_executorch(str(models / "int8.pte"))

    def prepare(self, pixels: Pixels) -> Any:
        """OpenCV and NumPy."""
        return torch.from_numpy(normalised(pixels))

    def infer(self, prepared: Any) -> Floats:
        """Logits."""
        logits: Floats = self._module.forward([prepared])[0][0].numpy()
        return logits


OURS = "edge-classifier"
ENGINES: dict[str, type[Engine]] = {
    OURS: ThisProject,
    "onnxruntime-int8": OnnxRuntime,
    "ncnn-int8": NcnnInt8,
    "executorch-xnnpack-int8": ExecuTorch,
}
# Its wheel has instructions that a Cortex-A72 lacks, which would end the process.
LEFT_OUT = {("cortex-a72", "executorch-xnnpack-int8")}


def main() -> int:
    """Export, count every engine, and compare its classes with those of x86."""
    cpu, weights_file, folder, classes, *files = sys.argv[1:]
    torch.set_num_threads(1)
    models = Path(folder)
    weights = read_weights(Path(weights_file), "resnet18")
    (models / "bundle").symlink_to(export_bundle(weights, models, target="arm64").directory)
    photos = [read_photo(Path(file)) for file in files]
    expected = [int(index) for index in classes.split(",")]
    agreed = 0
    for number, (name, make) in enumerate(ENGINES.items()):
        if (cpu, name) in LEFT_OUT:
            print(f"left-out {cpu} {name} illegal instruction", flush=True)
            continue
        try:
            engine = make(models, Path(weights_file), 1)
            first = _count(engine, photos, 2 * number * len(photos))
        except Exception as error:  # a runtime that does not work here is named, and the others are counted
            if name == OURS:
                raise
            print(f"left-out {cpu} {name} {type(error).__name__}: {error}", flush=True)
            continue
        agreed_here = sum(map(int.__eq__, first, expected))
        agreed = agreed_here if name == OURS else agreed
        print(f"engine {number} {name}\nagreement {cpu} {name} {agreed_here}/{len(photos)}", flush=True)
    return 0 if agreed == len(photos) else 1  # none of the photos is a near tie


def _count(engine: Engine, photos: list[Pixels], place: int) -> list[int]:
    """The best class of each photo; `place` and `place` + 1 enclose the first inference, and so on."""
    engine.infer(engine.prepare(photos[-1]))
    first = []
    for number, pixels in enumerate(photos):
        prepared = engine.prepare(pixels)
        libc.syscall(COUNTER, place + 2 * number)
        scores = engine.infer(prepared)
        libc.syscall(COUNTER, place + 2 * number + 1)
        first.append(int(scores.argmax()))
    return first


if __name__ == "__main__":
    sys.exit(main())
