"""Run the package's own inference path on ARM64 and count its instructions; `scripts/test-arm64` calls this.

usage: count.py CPU WEIGHTS MODELS PHOTO...   (each photo is counted once, after a warm-up on the golden photo)
"""

import ctypes
import sys
from pathlib import Path

import torch

from edge.export.architectures import ARCHITECTURES
from edge.export.exporter import buffer_of, contract_of, export_bundle
from edge.export.fold import fold
from edge.export.weights import read_weights
from edge.settings import ModelSettings
from edge.vision.bundle import load_bundle
from edge.vision.classifier import Classifier
from edge.vision.photo import read_photo

libc = ctypes.CDLL(None)


def main() -> int:
    """Export, load, count one inference a photo, compare its first label with FP32's."""
    cpu, weights_file, models, *photos = sys.argv[1:]
    torch.set_num_threads(1)
    weights = read_weights(Path(weights_file), "resnet18")
    network = fold(ARCHITECTURES["resnet18"](), weights.state)
    bundle = load_bundle(export_bundle(weights, Path(models), target="arm64").directory)
    classifier = Classifier(bundle, ModelSettings(threads=1))
    buffer, contract = classifier.new_input(), contract_of(network.architecture)
    agreed = 0
    for number, photo in enumerate(photos):
        pixels = read_photo(Path(photo))
        classifier.prepare(pixels, buffer)
        libc.syscall(12345, 2 * number)
        first = int(classifier.infer(buffer).argmax())
        libc.syscall(12345, 2 * number + 1)
        with torch.inference_mode():
            expected = int(network(buffer_of(pixels, contract))[0].argmax())
        agreed += first == expected
        print(f"{cpu}: {Path(photo).name}: INT8 {first}, FP32 {expected}", flush=True)
    print(f"agreement {cpu} {agreed}/{len(photos)}")
    return 0 if agreed >= len(photos) - 1 else 1  # one photo may be a near tie


if __name__ == "__main__":
    sys.exit(main())
