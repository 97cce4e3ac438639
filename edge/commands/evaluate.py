"""`edge-classifier evaluate`: how right a bundle is on labelled photos."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.settings import Settings

if TYPE_CHECKING:
    from edge.export.evaluate import Evaluation

HELP = "measure a bundle on labelled photos"
DESCRIPTION = """\
Classifies every photo that LABELS.csv names (columns `file`, relative to the
CSV, and `index`, the class from 0) and prints how often the right class came
first, and among the first five. With --weights it also tells how right FP32 is
and how often INT8 says the same."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Photos, bundle, FP32 weights, output."""
    parser.add_argument("labels", type=Path, metavar="LABELS.csv", help="a CSV with the columns file and index")
    parser.add_argument("--model", type=Path, metavar="BUNDLE", help="a bundle's directory (default: model.bundle)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="FP32 weights of the same network")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Evaluate and print."""
    from tqdm import tqdm

    from edge.export.evaluate import evaluate
    from edge.export.photos import read_labels
    from edge.export.weights import read_weights
    from edge.vision.bundle import load_bundle
    from edge.vision.classifier import Classifier

    bundle = load_bundle(arguments.model or settings.model.bundle)
    photos = read_labels(arguments.labels, len(bundle.labels))
    weights = read_weights(arguments.weights, bundle.manifest.architecture) if arguments.weights else None
    classifier = Classifier(bundle, settings.model)
    result = evaluate(classifier, bundle, tqdm(photos, unit="photo", leave=False, disable=None), weights)
    if arguments.json:
        print(json.dumps(result.to_dict()))
    else:
        print(_table(result))
    return 0


def _table(result: Evaluation) -> str:
    document: dict[str, Any] = result.to_dict()
    lines = [
        f"model      {document['model']}",
        f"photos     {document['photos']}",
        f"top-1      {document['top1']:.1f} %",
        f"top-5      {document['top5']:.1f} %",
    ]
    if (fp32 := document["fp32"]) is not None:
        lines += [
            f"FP32 top-1 {fp32['top1']:.1f} %",
            f"agreement  {fp32['agreement']:.1f} % say the same as FP32; confidence differs by"
            f" {fp32['confidence_difference']:.1f} points on average",
        ]
    return "\n".join(lines)
