"""Runs the daemon with a camera whose read never returns after some frames: `stuck_camera.py CONFIG FRAMES [light]`."""

import sys
import threading
from pathlib import Path
from typing import NoReturn

import numpy as np

from edge.camera.capture import Capture
from edge.camera.geometry import FrameBuffers
from edge.daemon.service import load_classifier
from edge.frames import Pixels
from edge.settings.schema import CameraSettings
from tests.light_daemon import Brightness, run


class StuckSource:
    """Delivers some frames, then blocks inside a read for good, as libcamera and V4L2 drivers do."""

    name = "stuck"
    live = True
    fps = 0.0

    def __init__(self, frames: int) -> None:
        self._left = frames

    def open(self) -> None: ...

    def grab(self) -> bool:
        if self._left == 0:
            threading.Event().wait()
        self._left -= 1
        return threading.Event().wait(0.05) or True

    def retrieve(self, buffers: FrameBuffers) -> Pixels:
        return np.zeros((480, 640, 3), np.uint8)

    def close(self) -> None: ...


def main() -> NoReturn:
    config, frames = Path(sys.argv[1]), int(sys.argv[2])

    def make(_: CameraSettings) -> StuckSource:
        return StuckSource(frames)

    model = Brightness if sys.argv[3:] == ["light"] else load_classifier
    run(config, lambda *a, **k: Capture(*a, make=make, **k), model)


if __name__ == "__main__":
    main()
