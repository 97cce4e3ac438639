"""Doctor's checks of the camera: a frame arrives, and red and blue are not exchanged."""

from __future__ import annotations

from pathlib import Path

from edge.board.child_process import run_apart
from edge.commands.doctor_checks.finding import Finding, service_runs, unit_property
from edge.settings.schema import CameraSettings

# Runs in a child process: a camera's driver may block, and picamera2 frees its camera only when the process ends.
PROGRAM = """\
from pathlib import Path
from edge.commands.doctor_checks.colours import compare_colours, first_picture
from edge.errors import EdgeClassifierError
from edge.settings.toml_file import load_settings
try:
    camera = load_settings(Path(sys.argv[1]) if sys.argv[1] else None).camera
    print({0})
except EdgeClassifierError as error:
    sys.exit(str(error))
"""


def camera(settings: CameraSettings, config: Path | None) -> Finding:
    """Whether a frame arrives; while the service runs and uses the camera, its status shows that.

    Warns about a file that ends: the service ends with it, and systemd starts it again each time.
    """
    if settings.source.startswith("file:") and not settings.loop and unit_property("LoadState") == "loaded":
        ends = f"{settings.source} ends, and the service then starts again, with its model, each time"
        return Finding("camera", "warning", ends, "Set loop = true in the config's [camera], and restart the service.")
    if service_runs():
        status = unit_property("StatusText")
        if "camera online" in status:
            return Finding("camera", "ok", "the running service has it, and frames arrive")
        return Finding("camera", "warning", f"the service reports: {status}")
    ran = run_apart(PROGRAM.format("first_picture(camera)"), str(config or ""))
    return Finding("camera", "ok", ran.output) if ran.code == 0 else Finding("camera", "warning", ran.last_line)


def colours(config: Path | None) -> Finding:
    """Whether red and blue are exchanged, judged by a second reading of the same scene."""
    if service_runs():
        return Finding("colours", "ok", "not compared while the service has the camera: stop it to have them compared")
    ran = run_apart(PROGRAM.format("*compare_colours(camera)"), str(config or ""))
    if ran.code != 0:
        return Finding("colours", "warning", f"not compared: {ran.last_line}")
    order, _, sentence = ran.output.partition(" ")
    if order == "exchanged":
        remedy = (
            "Look at the page's live picture; if red is blue there, report it with the camera's name and its driver."
        )
        return Finding("colours", "warning", sentence, remedy)
    return Finding("colours", "ok", sentence)
