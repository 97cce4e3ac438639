"""Doctor's checks of the camera: a frame arrives, and red and blue are not exchanged."""

from __future__ import annotations

from pathlib import Path

from edge.board.child_process import run_apart
from edge.commands.doctor_checks.finding import Finding, service_runs, unit_property
from edge.settings.schema import CameraSettings

CAMERA = """\
import sys
from edge.camera.geometry import FrameBuffers
from edge.camera.source import make_source
from edge.settings.toml_file import load_settings
from edge.errors import EdgeClassifierError
from pathlib import Path
source = make_source(load_settings(Path(sys.argv[1]) if sys.argv[1] else None).camera)
try:
    source.open()
    for _ in range(5):  # the first frames of a camera may be dark or late
        source.grab()
    height, width, _ = source.retrieve(FrameBuffers()).shape
except EdgeClassifierError as error:
    sys.exit(str(error))
print(f"{source.name} gives {width} × {height}")
"""
COLOURS = """\
import sys
from edge.commands.doctor_checks.colours import compare_colours
from edge.settings.toml_file import load_settings
from edge.errors import EdgeClassifierError
from pathlib import Path
try:
    order, sentence = compare_colours(load_settings(Path(sys.argv[1]) if sys.argv[1] else None).camera)
except EdgeClassifierError as error:
    sys.exit(str(error))
print(order, sentence, sep="\\n")
"""


def camera(settings: CameraSettings, config: Path | None) -> Finding:
    """Whether a frame arrives. While the service runs and has the camera, its status answers.

    Warns about a file that ends, after which the service would start again each time.
    """
    if settings.source.startswith("file:") and not settings.loop and unit_property("LoadState") == "loaded":
        ends = f"{settings.source} ends, and the service then starts again, with its model, each time"
        return Finding("camera", "warning", ends, "Set loop = true in the config's [camera], and restart the service.")
    if service_runs():
        status = unit_property("StatusText")
        if "camera online" in status:
            return Finding("camera", "ok", "the running service has it, and frames arrive")
        return Finding("camera", "warning", f"the service says: {status}")
    ran = run_apart(CAMERA, str(config or ""))
    if ran.code == 0:
        return Finding("camera", "ok", ran.output)
    return Finding("camera", "warning", ran.last_line)


def colours(config: Path | None, program: str = COLOURS) -> Finding:
    """Whether red and blue are exchanged, judged by a second reading of the same scene.

    Args:
        config: the file that names the camera.
        program: Python code that prints the order as one word, and a sentence on the next line.
    """
    if service_runs():
        return Finding("colours", "ok", "not compared while the service has the camera: stop it to have them compared")
    ran = run_apart(program, str(config or ""))
    if ran.code != 0:
        return Finding("colours", "warning", f"not compared: {ran.last_line}")
    order, _, sentence = ran.output.partition("\n")
    if order == "exchanged":
        return Finding(
            "colours",
            "warning",
            sentence,
            "Look at the page's live picture; if red is blue there, report it with the camera's name and its driver.",
        )
    return Finding("colours", "ok", sentence)
