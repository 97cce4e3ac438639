"""`edge-classifier run`: runs the daemon, which `edge/daemon/service.py` builds and starts."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import NoReturn

from edge.board.systemd import set_up_logging
from edge.settings.schema import Settings

HELP = "run the daemon: camera in, labels out over MQTT"
DESCRIPTION = """\
Classifies what the camera sees and publishes the top-3 labels to the MQTT
broker until a signal stops it. If the camera or the broker is missing it logs
that and tries again. Unacknowledged events wait in the fallback log on disk.

SIGTERM and SIGINT stop it within 5 seconds without losing an event. SIGHUP
reads the config again: [decision], [log] and camera.fps change at once, and
the log says what needs a restart.

Topics, below <base>/<device>:
  availability         online or offline, retained
  camera/availability  the same for the camera
  prediction           the newest event, retained
  event                each event as it happens
  replay               events that waited in the fallback log, in order
  status               health: rates, latencies, temperature, log depth, drops
  snapshot             the newest frame as JPEG, if mqtt.snapshot_every_s is set
  request/<name>       snapshot, classify, reload, set, model, use or
                       rollback, answered on response/<name>

[web] listen says where the page and the REST API are: http://127.0.0.1:5000
unless it is changed."""

# A frame needs the interpreter's lock several times. With Python's default of 5 ms for each, while the page is busy,
# that could take longer than the inference.
GIL_WAIT_S = 0.0005


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`run` has no options besides --config."""


def run(arguments: argparse.Namespace, settings: Settings) -> NoReturn:
    """Run until a signal or the end of a file source, and end the process."""
    set_up_logging(settings.log.level)
    sys.setswitchinterval(GIL_WAIT_S)
    from edge.daemon.service import Service  # imports OpenCV, and torch once it runs

    end_process(Service(settings, arguments.config).run())


def end_process(code: int) -> NoReturn:
    """End the process without Python's clean-up: everything is stored, and unloading torch takes seconds on a Pi."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)
