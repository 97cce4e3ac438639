"""Runs the daemon with a few lines in place of the network: `light_daemon.py CONFIG`.

Everything else is the daemon's own code. It starts in a third of the processor time, because torch is not imported.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from edge.board.systemd import set_up_logging
from edge.camera.capture import Capture
from edge.commands.run import end_process
from edge.daemon import service
from edge.events import Probabilities
from edge.frames import Pixels
from edge.settings.schema import ModelSettings
from edge.settings.toml_file import load_settings
from edge.vision.bundle import Bundle


class Brightness:
    """Answers with the class that a picture's mean brightness falls into; implements `model.Model`."""

    def __init__(self, bundle: Bundle, settings: ModelSettings) -> None:
        self.name, self.labels = bundle.name, bundle.labels

    def join_thread(self) -> None:
        """Nothing to prepare."""

    def new_input(self) -> Pixels:
        return np.zeros(1, np.uint8)

    def prepare(self, pixels: Pixels, into: Pixels) -> None:
        into[0] = int(pixels.mean())

    def infer(self, buffer: Pixels) -> Probabilities:
        probabilities = np.full(len(self.labels), 0.1 / (len(self.labels) - 1), np.float32)
        probabilities[int(buffer[0]) * len(self.labels) // 256] = 0.9
        return probabilities


def run(config: Path, make_capture: Callable[..., Any] = Capture, make_classifier: Any = Brightness) -> NoReturn:
    """Like `edge-classifier run --config CONFIG`."""
    set_up_logging("info")
    settings = load_settings(config)
    daemon = service.Service(settings, config, make_capture=make_capture, make_classifier=make_classifier)
    end_process(daemon.run())


if __name__ == "__main__":
    run(Path(sys.argv[1]))
