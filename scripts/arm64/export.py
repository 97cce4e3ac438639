"""Make this project's bundles on ARM64, one for each engine; `scripts/test-arm64` calls this.

usage: export.py WEIGHTS MODELS
Each bundle becomes MODELS/ENGINE/bundle, where ENGINE is its name in count.py. The first is the exporter's own, which
compares it with FP32. The others are the same bundle with another trunk: `export` would choose one of them by its time,
which an emulator does not know.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch

from edge.photos.decode import decode_photo
from edge.vision.bundle import Bundle, load_bundle
from edge.vision.engines import engine_of
from edge.vision.head import read_head
from edge.vision.manifest import Engine, Manifest
from edge.workshop.export.bundle_writer import write_bundle
from edge.workshop.export.exporter import buffer_of, export_bundle
from edge.workshop.export.judge.agreement import verify_golden
from edge.workshop.export.network.architectures import architecture
from edge.workshop.export.network.batch_norm_folding import fold_batch_norms
from edge.workshop.export.network.float_network import FloatNetwork
from edge.workshop.export.quantize import kernels_network, onnx_network
from edge.workshop.export.quantize.ranges import Range, data_free_ranges
from edge.workshop.export.weights.state_dict import read_weights

Writer = Callable[[FloatNetwork, dict[str, Range]], bytes]
OTHERS: dict[str, tuple[Engine, str, Writer]] = {
    "edge-classifier-kernels": (
        Engine(name="torchscript", options={"kernels": "edge"}),
        "trunk.ts",
        kernels_network.trunk_bytes,
    ),
    "edge-classifier-onnxruntime": (
        Engine(name="onnxruntime"),
        "trunk.onnx",
        lambda network, ranges: onnx_network.trunk_bytes(network, ranges, "qint8", small_pairs=False),
    ),
}


def main() -> int:
    """Export; errors end the program."""
    weights = read_weights(Path(sys.argv[1]), "resnet18")
    models = Path(sys.argv[2])
    torch.set_num_threads(1)
    first = export_bundle(weights, models / "edge-classifier-xnnpack", target="arm64").directory
    (models / "edge-classifier-xnnpack/bundle").symlink_to(first)
    bundle = load_bundle(first)
    network = fold_batch_norms(architecture("resnet18"), weights.state)
    ranges = data_free_ranges(network)
    for name, (engine, file, write) in OTHERS.items():
        other = _with_trunk(bundle, engine, (file, write(network, ranges)), network, models / name)
        (models / name / "bundle").symlink_to(other)
    return 0


def _with_trunk(bundle: Bundle, engine: Engine, trunk: tuple[str, bytes], network: FloatNetwork, into: Path) -> Path:
    """Write the bundle with another engine's trunk (name and content), and its answers to the golden photo."""
    manifest: Manifest = bundle.manifest.model_copy(update={"engine": engine})
    contents = {role: (file.name, bundle.files[role]) for role, file in manifest.files.items()}
    contents["trunk"] = trunk
    session = engine_of(manifest).load(manifest, {"trunk": trunk[1]}, 1)
    head = read_head(bundle.files["head"], network.features)
    golden = buffer_of(decode_photo(bundle.files["golden"], "the golden photo"), manifest.input)
    classes = verify_golden(lambda pixels: head.probabilities(session.infer(pixels)), network, golden, "INT8")
    return write_bundle(contents, manifest.model_copy(update={"golden": classes}), into, lambda directory: None)[0]


if __name__ == "__main__":
    sys.exit(main())
