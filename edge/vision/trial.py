"""Tries a bundle in a child process, without root's rights if another user may change the bundle."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from edge.board.child_process import run_apart
from edge.errors import BundleError
from edge.settings.schema import ModelSettings

WITHIN_S = 300.0  # importing torch and loading a model take more than a minute on a Zero 2 W
PROGRAM = """\
import json, sys
from pathlib import Path
from edge.settings.schema import ModelSettings
from edge.vision.bundle import load_bundle
from edge.vision.classifier import Classifier
from edge.errors import BundleError, EdgeClassifierError
try:
    settings = ModelSettings(bundle=Path(sys.argv[1]), device=sys.argv[2], threads=int(sys.argv[3]))
    bundle = load_bundle(settings.bundle)
    print(json.dumps([Classifier(bundle, settings).name, bundle.manifest.fallback]))
except EdgeClassifierError as error:
    print(error, file=sys.stderr)
    sys.exit(BundleError.exit_code)
"""


def verify_bundle(directory: Path, settings: ModelSettings) -> tuple[str, str]:
    """Check every byte of a bundle and its answer to its golden photo.

    Returns:
        The bundle's name, and its manifest's `fallback`.

    Raises:
        BundleError: the bundle is bad, or could not be tried.
    """
    ran = run_apart(PROGRAM, str(directory), settings.device, str(settings.threads), within_s=WITHIN_S, code=directory)
    if ran.code == BundleError.exit_code:
        raise BundleError(ran.last_line)  # a sentence already
    if ran.code != 0:
        name = Path(os.path.realpath(directory)).name  # `current` is a link
        remedy = "free some memory and try again, or export it again"
        if ran.code == -signal.SIGILL:
            remedy = "export it again on this machine"
        raise BundleError(f"The bundle {name!a} could not be tried ({ran.last_line:.200}); {remedy}.")
    name, fallback = json.loads(ran.output)
    return name, fallback
