"""`edge-classifier evaluate`: measures a bundle's accuracy on labelled photos."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from edge.settings.schema import Settings

HELP = "measure a bundle on labelled photos"
DESCRIPTION = """\
Classifies every photo that LABELS.csv names (columns `file`, relative to the
CSV, and `index`, the class from 0). Prints how often the right class came
first, and how often it was among the first five, with the 95 % interval for
that number of photos. With --weights it also prints how often FP32 is right,
and how often INT8 and FP32 agree.

The calibration error is the difference between confidence and accuracy: of the
photos that a well calibrated model is 80 % sure of, it gets 80 % right. --plot
draws this as a reliability diagram. The last lines are the classes that were
confused most often; of equally frequent ones, those with the most confidence."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the photos, the bundle, the FP32 weights and the form of the output."""
    parser.add_argument("labels", type=Path, metavar="LABELS.csv", help="a CSV with the columns file and index")
    parser.add_argument("--model", type=Path, metavar="BUNDLE", help="a bundle's directory (default: model.bundle)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="FP32 weights of the same network")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the reliability diagram: FILE.svg or FILE.png")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Evaluate and print."""
    from tqdm import tqdm

    from edge.photos.folders import read_labels
    from edge.vision.batch import threads_for
    from edge.vision.bundle import load_bundle
    from edge.vision.classifier import Classifier
    from edge.workshop.charts import check_name, draw_reliability
    from edge.workshop.evaluate.evaluate import evaluate
    from edge.workshop.evaluate.report import to_text

    if arguments.plot:
        check_name(arguments.plot)
    bundle = load_bundle(arguments.model or settings.model.bundle, given=arguments.model is not None)
    photos = read_labels(arguments.labels, len(bundle.labels))
    weights = None
    if arguments.weights:
        from edge.workshop.export.weights.state_dict import read_weights  # imports torch, which only FP32 needs

        weights = read_weights(arguments.weights, bundle.manifest.architecture)
    threads = 1 if weights else threads_for(len(photos))  # FP32 takes longest, and uses all processors
    model = settings.model if threads == 1 else settings.model.model_copy(update={"threads": 1})
    progress = partial(tqdm, unit="photo", leave=False, disable=None)
    result = evaluate(Classifier(bundle, model), bundle, photos, weights, threads=threads, progress=progress)
    if arguments.json:
        print(json.dumps(result.to_dict()))
    else:
        print(to_text(result))
    if arguments.plot:
        draw_reliability(result, arguments.plot)
    return 0
