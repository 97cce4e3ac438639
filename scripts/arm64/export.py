"""Make this project's bundles on ARM64, one for each engine; `scripts/test-arm64` calls this.

usage: export.py WEIGHTS MODELS
Each bundle becomes MODELS/ENGINE/bundle, where ENGINE is its name in count.py.
"""

import sys
from pathlib import Path

import torch

from edge.workshop.export.exporter import export_bundle
from edge.workshop.export.weights.state_dict import read_weights


def main() -> int:
    """Export; errors end the program."""
    weights = read_weights(Path(sys.argv[1]), "resnet18")
    torch.set_num_threads(1)
    into = Path(sys.argv[2]) / "edge-classifier-xnnpack"
    into.mkdir()
    (into / "bundle").symlink_to(export_bundle(weights, into, target="arm64").directory.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
