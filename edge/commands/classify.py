"""`edge-classifier classify`: the labels of photos, as text, JSON lines or CSV."""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from edge.errors import PhotoError, StateError
from edge.events import Label, Prediction, top_k
from edge.settings.schema import Settings

HELP = "classify photos"
DESCRIPTION = """\
Prints the three most probable labels of each photo, with the confidence in
percent. A folder means every photo in it, in the order of their names;
many photos are classified on all processors. A photo that cannot be read is
reported on stderr and does not stop the others; the exit code is then 66.

--json prints one line a photo:
  {"file": "cat.jpg", "top": [{"label": "tabby", "confidence": 71.9,
   "index": 281}, …], "model": "resnet18-int8-3fa9c1",
   "latency_ms": {"preprocess": 1.2, "inference": 41.8}}
--csv prints one row a photo, with a header:
  file,label,confidence,index,label_2,confidence_2,index_2,label_3,…,model"""
TOP = 3
COLUMNS = [f"{name}{rank}" for rank in ("", "_2", "_3") for name in ("label", "confidence", "index")]
Write = Callable[[Path, tuple[Label, ...], Prediction], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the photos, the bundle and the form of the output."""
    parser.add_argument(
        "photos", nargs="+", type=Path, metavar="PHOTO|FOLDER", help="a JPEG, PNG, WebP, BMP or TIFF, or a folder"
    )
    parser.add_argument("--model", type=Path, metavar="BUNDLE", help="a bundle's directory (default: model.bundle)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON line a photo")
    form.add_argument("--csv", action="store_true", help="print one CSV row a photo")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there (default: standard output)")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Classify every photo, in order; for a folder, print the time and the rate to stderr at the end."""
    from tqdm import tqdm

    from edge.photos.folders import photos_in
    from edge.vision.batch import classify_photos, threads_for
    from edge.vision.bundle import load_bundle
    from edge.vision.classifier import Classifier

    folders = [given for given in arguments.photos if given.is_dir()]
    photos = [photo for given in arguments.photos for photo in (photos_in(given) if given in folders else [given])]
    threads = threads_for(len(photos))
    model = settings.model if threads == 1 else settings.model.model_copy(update={"threads": 1})
    bundle = load_bundle(arguments.model or model.bundle, given=arguments.model is not None)
    classifier = Classifier(bundle, model)
    unreadable, began = 0, time.perf_counter()
    with _output(arguments.output) as output, contextlib.closing(classify_photos(classifier, photos, threads)) as found:
        write = _writer(arguments, output, classifier.name)
        # Not between the lines of the output on a terminal; None shows it if stderr is a terminal.
        no_bar = True if output is sys.stdout and sys.stdout.isatty() else None
        for photo, outcome in tqdm(found, total=len(photos), unit="photo", leave=False, disable=no_bar):
            if isinstance(outcome, PhotoError):
                unreadable += 1
                tqdm.write(f"edge-classifier: {outcome}", file=sys.stderr)
            else:
                write(photo, top_k(outcome.probabilities, classifier.labels, TOP), outcome)
    if folders:
        seconds = time.perf_counter() - began
        summary = f"{len(photos)} photos in {seconds:.1f} s, {len(photos) / seconds:.1f} a second"
        print(summary + (f"; {unreadable} could not be read" if unreadable else ""), file=sys.stderr)
    return PhotoError.exit_code if unreadable else 0


@contextlib.contextmanager
def _output(file: Path | None) -> Iterator[TextIO]:
    # The name of a file may not be UTF-8. Python and JSON both write such a byte as `\\udce9`.
    if file is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        yield sys.stdout
        return
    try:
        with file.open("w", encoding="utf-8", errors="backslashreplace", newline="") as output:
            yield output
    except OSError as error:
        raise StateError(f"{file} cannot be written ({error.strerror}); choose another place.") from error


def _writer(arguments: argparse.Namespace, output: TextIO, model: str) -> Write:
    """The function that writes one photo's line in the form asked for, at once if it goes to standard output."""
    if arguments.csv:
        rows = csv.writer(output, lineterminator="\n")
        rows.writerow(["file", *COLUMNS, "model"])

    def as_row(photo: Path, top: tuple[Label, ...], prediction: Prediction) -> None:
        cells = [cell for label in top for cell in (label.label, label.confidence, label.index)]
        rows.writerow([photo, *cells, *[""] * (len(COLUMNS) - len(cells)), model])

    def as_json(photo: Path, top: tuple[Label, ...], prediction: Prediction) -> None:
        line = {
            "file": str(photo),
            "top": [dataclasses.asdict(label) for label in top],
            "model": model,
            "latency_ms": dict(prediction.latency_ms),
        }
        print(json.dumps(line, ensure_ascii=False), file=output, flush=arguments.output is None)

    def as_text(photo: Path, top: tuple[Label, ...], prediction: Prediction) -> None:
        labels = ", ".join(f"{label.label} {label.confidence:.1f} %" for label in top)
        print(f"{photo}: {labels}", file=output, flush=arguments.output is None)

    return as_row if arguments.csv else as_json if arguments.json else as_text
