"""Try a bundle in a process of its own, which has none of root's rights where another user may change the bundle."""

from __future__ import annotations

from pathlib import Path

from edge.commands.doctor_checks.finding import run_apart
from edge.errors import BundleError
from edge.settings import ModelSettings

WITHIN_S = 300.0  # importing torch and loading a model take more than a minute on a Zero 2 W
PROGRAM = """\
import sys
from pathlib import Path
from edge.settings import ModelSettings
from edge.vision.bundle import load_bundle
from edge.vision.classifier import Classifier
from edge.errors import EdgeClassifierError
try:
    settings = ModelSettings(bundle=Path(sys.argv[1]), device=sys.argv[2], threads=int(sys.argv[3]))
    print(Classifier(load_bundle(settings.bundle), settings).name)
except EdgeClassifierError as error:
    sys.exit(str(error))
"""


def verify_bundle(directory: Path, settings: ModelSettings) -> str:
    """Check every byte of a bundle and its answer to its golden photo; returns its name.

    Raises:
        BundleError: it cannot be used.
    """
    ran = run_apart(PROGRAM, str(directory), settings.device, str(settings.threads), within_s=WITHIN_S, code=directory)
    if ran.code != 0:
        raise BundleError(ran.last_line)
    return ran.output
