"""A process that runs one bundle and measures it whenever it is asked; `installed.py` starts one for each bundle.

It has a process of its own because an engine's library is global, and because its memory is then the bundle's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edge.board import host
from edge.errors import BundleError, EdgeClassifierError
from edge.photos.decode import decode_photo
from edge.settings.schema import ModelSettings
from edge.vision.bundle import load_bundle
from edge.vision.classifier import Classifier
from edge.workshop.timing import inference_ms

LEAST = 5  # in a round, however slow the board is
PROGRAM = "from edge.workshop.bench.one_bundle import main; main()"


def main() -> None:
    """Load the bundle; then for each line with seconds, print the milliseconds of inferences, and the memory.

    A bundle that cannot run, or answers its golden photo wrongly, is a sentence on stderr and an exit code.
    """
    directory, device, threads = sys.argv[1:]
    try:
        bundle = load_bundle(Path(directory))
        classifier = Classifier(bundle, ModelSettings(bundle=bundle.directory, device=device, threads=int(threads)))
    except EdgeClassifierError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(BundleError.exit_code)
    buffer = classifier.new_input()
    classifier.prepare(decode_photo(bundle.files["golden"], bundle.golden.name), buffer)
    _answer([])
    for line in sys.stdin:
        _answer(inference_ms(lambda: classifier.infer(buffer), float(line), LEAST))


def _answer(milliseconds: list[float]) -> None:
    sys.stdout.write(json.dumps({"ms": milliseconds, "memory_bytes": host.memory_bytes() or 0}) + "\n")
    sys.stdout.flush()
