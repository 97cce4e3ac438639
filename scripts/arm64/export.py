"""Make this project's bundles on ARM64, one for each engine; `scripts/test-arm64` calls this.

usage: export.py WEIGHTS MODELS
Each bundle becomes MODELS/NAME/bundle, where NAME is that of the engine in count.py. The first is the exporter's own,
which compares it with FP32. The others are the same bundle with the trunk of another engine, because comparing takes
minutes on an emulator.
"""

import sys
from pathlib import Path

import torch

from edge.photos.decode import decode_photo
from edge.vision.bundle import load_bundle
from edge.workshop.export.bundle_writer import write_bundle
from edge.workshop.export.candidates import make_candidate
from edge.workshop.export.exporter import buffer_of, export_bundle
from edge.workshop.export.judge.agreement import verify_golden
from edge.workshop.export.network.architectures import architecture
from edge.workshop.export.network.batch_norm_folding import fold_batch_norms
from edge.workshop.export.quantize.ranges import data_free_ranges
from edge.workshop.export.recipes import recipes
from edge.workshop.export.weights.state_dict import read_weights

FIRST = ("edge-classifier-xnnpack", "xnnpack")
OTHERS = {"edge-classifier-kernels": "edge", "edge-classifier-onnxruntime": "onnxruntime"}


def main() -> int:
    """Export; errors end the program."""
    weights = read_weights(Path(sys.argv[1]), "resnet18")
    models = Path(sys.argv[2])
    torch.set_num_threads(1)
    name, engine = FIRST
    directory = export_bundle(weights, models / name, target="arm64", engine=engine, threads=1).directory
    (models / name / "bundle").symlink_to(directory)
    bundle = load_bundle(directory)
    network = fold_batch_norms(architecture("resnet18"), weights.state)
    golden = buffer_of(decode_photo(bundle.files["golden"], "the golden photo"), bundle.manifest.input)
    for name, engine in OTHERS.items():
        (recipe,), _ = recipes(engine, "arm64", network)
        candidate = make_candidate(recipe, bundle.manifest, network, data_free_ranges(network), golden, 1)
        answers = verify_golden(candidate, network, golden, "INT8")
        contents = {role: (file.name, bundle.files[role]) for role, file in bundle.manifest.files.items()}
        contents["trunk"] = (candidate.file, candidate.trunk)
        manifest = candidate.manifest.model_copy(update={"golden": answers})
        directory, _ = write_bundle(contents, manifest, models / name, lambda directory: None)
        (models / name / "bundle").symlink_to(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
