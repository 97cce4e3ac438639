"""`edge-classifier try`: runs the daemon with its own broker in the foreground and prints each event."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from edge.board.child_process import EDGE, fresh_python, run_apart
from edge.commands.try_broker import LOOPBACK, Broker, find_mosquitto, free_port, running, running_broker
from edge.commands.try_screen import COLUMNS, event_lines, writes_unicode
from edge.daemon.signals import signals_queued
from edge.errors import BrokerError, CameraError, EdgeClassifierError, StateError
from edge.events import Event
from edge.settings.defaults import default_device_name, state_directory
from edge.settings.schema import CameraSettings, MqttSettings, Settings
from edge.settings.toml_file import mask

if TYPE_CHECKING:
    from edge.delivery.blocking_client import BlockingClient

HELP = "watch it work: a broker, the daemon, and each event as the broker delivers it"
DESCRIPTION = """\
Runs the daemon and a broker on a free loopback port, and prints each event as
the broker delivers it. The frames come from the camera, or from photos if there
is none. Makes the model on its first run. Writes only to the state directory;
Ctrl-C stops everything.

./install.sh --try runs this after installing what it needs into .venv."""

CAMERA_WITHIN_S = 20.0
PHOTO_FPS = 0.5
LOG_LINES = 5
TICK_S = 0.2  # how often a signal and the end of the daemon are looked for
# Runs in a child process: a camera's driver may block, and picamera2 frees its camera only when the process ends.
CAMERA_PROBE = """\
from edge.camera.source import make_source
from edge.settings.schema import CameraSettings
source = make_source(CameraSettings())
source.open()
assert source.grab()
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `try`."""
    parser.add_argument("--source", metavar="URI", help="camera or file: source (default: the camera, else --photos)")
    parser.add_argument("--photos", metavar="DIR", type=Path, help="photos to show if there is no camera")
    parser.add_argument("--count", metavar="N", type=int, default=0, help="stop after N events (default: at Ctrl-C)")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run until Ctrl-C, until the source's end, or until `--count` events were printed."""
    from edge.delivery.blocking_client import connected

    state = state_directory() / "try"
    config = _empty_config(state)
    source, photos = _source(arguments)
    _check_file(source)
    bundle = settings.model.bundle
    if not bundle.exists():
        print("Making the INT8 model, once.", flush=True)
        export = subprocess.run(fresh_python(EDGE, "export", "--weights", "auto"), check=False)
        if export.returncode != 0:
            return export.returncode  # export has printed the reason
    notice = fallback_notice(bundle)
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    with ExitStack() as stack:
        stack.enter_context(signals_queued(signals, signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        broker = stack.enter_context(running_broker(state, find_mosquitto()))
        mqtt = MqttSettings(url=broker.url, version=broker.version)
        client = stack.enter_context(connected(mqtt, f"edge-classifier-try-{os.getpid()}"))
        client.subscribe([f"edge/+/{topic}" for topic in ("event", "replay", "status")])
        page = f"{LOOPBACK}:{free_port()}"
        config.write_text(_config(broker, source, photos, bundle, state, page), encoding="utf-8")
        log = state / "daemon.log"
        daemon = stack.enter_context(running(fresh_python(EDGE, "run", "--config", str(config)), log))
        shown = f"photos in {_short(arguments.photos)}" if photos else mask(source)
        print(*(shown, bundle.resolve().name, broker.name, "here"), sep=" → " if writes_unicode() else " -> ")
        print(f"{broker.name} listens on {LOOPBACK}:{broker.port}.")
        print(f"The daemon logs to {_short(log)}; Ctrl-C stops everything.\n{notice}", flush=True)
        return _watch(client, signals, daemon, log, page, arguments.count)


def fallback_notice(bundle: Path) -> str:
    """A few lines if the model is another network than the requested one, else "".

    Raises:
        BundleError: the bundle is bad.
    """
    from edge.vision.bundle import load_bundle

    fallback = load_bundle(bundle).manifest.fallback
    if not fallback:
        return ""
    export = f"{_short(Path(sys.prefix, 'bin', 'edge-classifier'))} export --weights FILE"
    return "\n".join(["", *textwrap.wrap(f"{fallback}. For other weights:", COLUMNS), f"  {export}", ""])


def _source(arguments: argparse.Namespace) -> tuple[str, bool]:
    """The source's URI, and whether it is a folder of unrelated photos."""
    if arguments.source is not None:
        return arguments.source, False
    if any(Path("/dev").glob("video*")) and run_apart(CAMERA_PROBE, within_s=CAMERA_WITHIN_S).code == 0:
        return "auto", False
    if arguments.photos is None:
        raise CameraError("No camera gives a picture here; name a source, such as --source file:holiday.mp4.")
    return f"file:{arguments.photos.resolve()}", True


def _check_file(source: str) -> None:
    """Refuse a file: source that gives no picture. The daemon would wait for a file that may still come.

    Raises:
        CameraError: it is missing, or cannot be read.
    """
    from edge.camera.source import make_source

    if source.startswith("file:") and source != "file:":
        camera = make_source(CameraSettings(source=source))
        try:
            camera.open()
            camera.grab()
        finally:
            camera.close()


def _empty_config(state: Path) -> Path:
    """Make the directory and an empty config in it, so that a failure shows before anything is started."""
    config = state / "try.toml"
    try:
        state.mkdir(parents=True, exist_ok=True)
        config.touch(mode=0o600)  # a network camera's URL may hold a password
        config.write_text("", encoding="utf-8")
    except OSError as error:
        raise StateError(
            f"{state} cannot be made or written ({error.strerror}); name another place in STATE_DIRECTORY."
        ) from error
    return config


def _config(broker: Broker, source: str, photos: bool, bundle: Path, state: Path, page: str) -> str:
    sections: dict[str, dict[str, object]] = {
        # Another device name, so that an installed daemon's topics are not used.
        "device": {"name": default_device_name() + "-try"},
        "camera": {"source": source, "loop": source.startswith("file:"), "fps": PHOTO_FPS if photos else 0},
        "model": {"bundle": str(bundle)},
        # Photos are unrelated to each other, so they are neither smoothed nor held.
        "decision": {"smoothing_s": 0, "hold_s": 0} if photos else {},
        "mqtt": {"url": broker.url, "version": broker.version},
        "fallback": {"path": str(state / "fallback.db")},
        "web": {"listen": page},
    }
    lines = ["# The settings of `edge-classifier try`; deploy/config.toml explains every key."]
    for name, keys in sections.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]  # as in TOML
    return "\n".join([*lines, ""])


def _watch(
    client: BlockingClient,
    signals: queue.SimpleQueue[int],
    daemon: subprocess.Popen[bytes],
    log: Path,
    page: str,
    count: int,
) -> int:
    """Print what the broker delivers until a signal, the daemon's end or `count` events; returns the exit code.

    The address of the page is printed once it answers, which is seconds after the daemon was started.
    """
    from edge.delivery.reports import Received

    seen, errors, announced = 0, {"camera_error": "", "web_error": ""}, False
    while not count or seen < count:
        if not signals.empty():
            print("\nStopping.", flush=True)
            return 0
        if not announced and (announced := answers(page)):
            print(f"The page is at http://{page}\n", flush=True)
        try:
            message = client.next(Received, within_s=TICK_S)
        except BrokerError:  # nothing was delivered
            if daemon.poll() is None:
                continue
            if daemon.returncode == 0:
                return 0  # a file: source has ended, and its events were delivered
            sys.stderr.write(
                "".join(log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)[-LOG_LINES:])
            )
            raise EdgeClassifierError(
                f"The daemon ended with {daemon.returncode}; the lines above are the last of its log."
            ) from None
        if message.topic.endswith("/status"):
            status = json.loads(message.payload)
            for name, before in errors.items():
                errors[name] = str(status.get(name, ""))
                if errors[name] not in ("", before):
                    print(f"{errors[name]}\n", flush=True)
        else:
            print(*event_lines(Event.from_json(message.payload)), "", sep="\n", flush=True)
            seen += 1
    return 0


def answers(page: str) -> bool:
    """Whether the page at `page`, such as `127.0.0.1:5000`, answers within TICK_S."""
    connection = http.client.HTTPConnection(page, timeout=TICK_S)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):  # it does not listen yet, or is still importing what it needs
        return False
    finally:
        connection.close()


def _short(path: Path) -> str:
    """A path relative to the current directory, if it is below that."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
