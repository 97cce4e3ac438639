"""Runs the daemon with a model that fails after COUNT answers: `faulty_model.py CONFIG load|hang|raise|leak COUNT`."""

import sys
import threading
from pathlib import Path
from typing import NoReturn

from edge.board.systemd import set_up_logging
from edge.commands.run import end_process
from edge.daemon.service import Service
from edge.events import Probabilities
from edge.settings.schema import ModelSettings
from edge.settings.toml_file import load_settings
from edge.vision.bundle import Bundle
from edge.vision.classifier import Classifier
from edge.vision.preprocess import InputBuffer

LEAK_BYTES = 16 << 20  # at each inference


class FaultyClassifier(Classifier):
    """The real classifier until it hangs, raises or leaks; its warm-up does not count."""

    def __init__(self, bundle: Bundle, settings: ModelSettings, fault: str, count: int) -> None:
        self._left: int | None = None
        if fault == "load":
            print("the model never loads", flush=True)
            threading.Event().wait()
        super().__init__(bundle, settings)
        self._left, self._fault = count, fault
        self._leak: list[bytes] = []

    def infer(self, buffer: InputBuffer) -> Probabilities:
        if self._left is not None:
            self._left -= 1
            if self._left < 0 and self._fault == "hang":
                threading.Event().wait()
            if self._left < 0 and self._fault == "leak":
                self._leak.append(b"x" * LEAK_BYTES)
            elif self._left < 0:
                raise RuntimeError("the model fell apart")
        return super().infer(buffer)


def main() -> NoReturn:
    config, fault, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    set_up_logging("info")
    service = Service(
        load_settings(config, {}),
        config,
        make_classifier=lambda bundle, settings: FaultyClassifier(bundle, settings, fault, count),
    )
    end_process(service.run())


if __name__ == "__main__":
    main()
