"""`edge-classifier classify`: say what photos show."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import sys
from pathlib import Path

from edge.errors import PhotoError
from edge.settings import Settings

HELP = "say what photos show"
DESCRIPTION = """\
Prints the three most probable labels of each photo, with the confidence in
percent. A photo that cannot be read is told on stderr and does not stop the
others; the exit code is 66 then.

--json prints one line a photo:
  {"file": "cat.jpg", "top": [{"label": "tabby", "confidence": 71.9,
   "index": 281}, …], "model": "resnet18-int8-3fa9c1",
   "latency_ms": {"preprocess": 1.2, "inference": 41.8}}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Photos, bundle, output."""
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="a JPEG, PNG, WebP, BMP or TIFF")
    parser.add_argument("--model", type=Path, metavar="BUNDLE", help="a bundle's directory (default: model.bundle)")
    parser.add_argument("--json", action="store_true", help="print one JSON line a photo")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Classify each photo in turn."""
    from edge.vision.bundle import load_bundle
    from edge.vision.classifier import Classifier
    from edge.vision.photo import read_photo

    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name need not be UTF-8; `\\udce9` is how both Python and JSON write such a byte.
        sys.stdout.reconfigure(errors="backslashreplace")
    classifier = Classifier(load_bundle(arguments.model or settings.model.bundle), settings.model)
    code = 0
    for photo in arguments.photos:
        try:
            pixels = read_photo(photo)
        except PhotoError as error:
            print(f"edge-classifier: {error}", file=sys.stderr)
            code = error.exit_code
            continue
        prediction = classifier.predict(pixels)
        top = classifier.top(prediction.probabilities)
        if arguments.json:
            line = {
                "file": str(photo),
                "top": [dataclasses.asdict(label) for label in top],
                "model": classifier.name,
                "latency_ms": dict(prediction.latency_ms),
            }
            print(json.dumps(line, ensure_ascii=False), flush=True)
        else:
            print(f"{photo}: " + ", ".join(f"{label.label} {label.confidence:.1f} %" for label in top), flush=True)
    return code
