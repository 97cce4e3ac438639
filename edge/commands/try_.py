"""`edge-classifier try`: runs the daemon with its own broker in the foreground and prints each event."""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edge.board.child_process import EDGE, fresh_python, run_apart
from edge.commands.try_broker import LOOPBACK, Broker, find_mosquitto, free_port, running, running_broker
from edge.commands.try_screen import event_lines, heading
from edge.errors import BrokerError, CameraError, EdgeClassifierError, StateError
from edge.events import Event
from edge.settings.defaults import default_device_name, state_directory
from edge.settings.schema import Settings
from edge.settings.toml_file import mask

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

HELP = "watch it work: a broker, the daemon, and each event as the broker delivers it"
DESCRIPTION = """\
Runs the daemon with a broker of its own on a free loopback port, and prints
each event as it comes back from that broker. It looks through the camera
where there is one, and otherwise at photos. Makes the model on its first run.
Nothing outside the state directory is touched; Ctrl-C stops everything.

./install.sh --try runs this after installing what it needs into .venv."""

CAMERA_WITHIN_S = 20.0
PHOTO_FPS = 0.5
LOG_LINES = 5
COLUMNS = 80
# Runs in a child process: a camera's driver may block, and picamera2 frees its camera only when the process ends.
CAMERA_PROBE = """\
from edge.camera.source import make_source
from edge.settings.schema import CameraSettings
source = make_source(CameraSettings())
source.open()
assert source.grab()
"""
# Photos are unrelated to each other, so they are neither smoothed nor held.
CONFIG = """\
# What `edge-classifier try` runs with; deploy/config.toml explains every key.
[device]
name = {device}
[camera]
source = {source}
loop = {loop}
fps = {fps}
[model]
bundle = {bundle}
[decision]
smoothing_s = {smoothing_s}
hold_s = {hold_s}
[mqtt]
url = {url}
version = {version}
[fallback]
path = {fallback}
[web]
listen = {page}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `try`."""
    parser.add_argument("--source", metavar="URI", help="camera or file: source (default: the camera, else --photos)")
    parser.add_argument("--photos", metavar="DIR", type=Path, help="photos to look at where there is no camera")
    parser.add_argument("--count", metavar="N", type=int, default=0, help="stop after N events (default: at Ctrl-C)")


# A message's last topic level and its payload, or STOP.
Message = tuple[str, bytes]
STOP: Message = ("stop", b"")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run until Ctrl-C, until the source's end, or until `--count` events were seen."""
    bundle = settings.model.bundle
    if not bundle.exists():
        print("Making the INT8 model, once.", flush=True)
        export = subprocess.run(fresh_python(EDGE, "export", "--weights", "auto"), check=False)
        if export.returncode != 0:
            return export.returncode  # export has printed the reason
    source, photos = _source(arguments)
    state = state_directory() / "try"
    config = _empty_config(state)
    notice = fallback_notice(bundle)
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    with ExitStack() as stack:
        stack.enter_context(_stop_signals(messages))
        broker = stack.enter_context(running_broker(state, find_mosquitto()))
        stack.enter_context(_subscriber(broker, messages))
        page = f"{LOOPBACK}:{free_port()}"
        config.write_text(_config(broker, source, photos, bundle, state, page), encoding="utf-8")
        log = state / "daemon.log"
        command = fresh_python(EDGE, "run", "--config", str(config))
        daemon = stack.enter_context(running(command, log))
        seen = f"photos in {_short(arguments.photos)}" if photos else mask(source)
        print(heading([seen, bundle.resolve().name, broker.name, "here"]))
        print(f"{broker.name} listens on {LOOPBACK}:{broker.port}; the page is at http://{page}")
        print(f"The daemon logs to {_short(log)}; Ctrl-C stops everything.\n{notice}", flush=True)
        return _watch(messages, daemon, log, arguments.count)


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


def _watch(messages: queue.SimpleQueue[Message], daemon: subprocess.Popen[bytes], log: Path, count: int) -> int:
    """Print what the broker delivers until a signal, the daemon's end or `count` events; returns the exit code."""
    seen, camera_error = 0, ""
    while not count or seen < count:
        try:
            topic, payload = messages.get(timeout=1.0)
        except queue.Empty:
            if daemon.poll() is None:
                continue
            if daemon.returncode == 0:
                return 0  # a file: source has ended, and its events were delivered
            sys.stderr.write("".join(log.read_text(encoding="utf-8").splitlines(keepends=True)[-LOG_LINES:]))
            raise EdgeClassifierError(
                f"The daemon ended with {daemon.returncode}; the lines above are the last of its log."
            ) from None
        if (topic, payload) == STOP:
            print("\nStopping.", flush=True)
            return 0
        if topic == "status":
            before, camera_error = camera_error, str(json.loads(payload).get("camera_error", ""))
            if camera_error not in ("", before):
                print(f"{camera_error}\n", flush=True)
            continue
        print(*event_lines(Event.from_json(payload)), "", sep="\n", flush=True)
        seen += 1
    return 0


def _short(path: Path) -> str:
    """A path relative to the current directory, if it is below that."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _source(arguments: argparse.Namespace) -> tuple[str, bool]:
    """The source's URI, and whether it is a folder of unrelated photos."""
    if arguments.source is not None:
        return arguments.source, False
    if _camera_works():
        return "auto", False
    if arguments.photos is None:
        raise CameraError("No camera gives a picture here; name a source, such as --source file:holiday.mp4.")
    return f"file:{arguments.photos.resolve()}", True


def _camera_works() -> bool:
    if not any(Path("/dev").glob("video*")):
        return False
    return run_apart(CAMERA_PROBE, within_s=CAMERA_WITHIN_S).code == 0


def _config(broker: Broker, source: str, photos: bool, bundle: Path, state: Path, page: str) -> str:
    # Another device name, so that an installed daemon's topics are not used.
    text = {
        "device": default_device_name() + "-try",
        "source": source,
        "bundle": str(bundle),
        "url": broker.url,
        "fallback": str(state / "fallback.db"),
        "page": page,
        "version": broker.version,
        "loop": source.startswith("file:"),
        "fps": PHOTO_FPS if photos else 0,
        "smoothing_s": 0 if photos else 1.0,
        "hold_s": 0 if photos else 0.5,
    }
    return CONFIG.format(**{key: json.dumps(value) for key, value in text.items()})  # JSON's values are TOML's


@contextmanager
def _stop_signals(messages: queue.SimpleQueue[Message]) -> Iterator[None]:
    """Let signals put STOP on the queue; SimpleQueue.put is reentrant."""
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: messages.put(STOP)) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _subscriber(broker: Broker, messages: queue.SimpleQueue[Message]) -> Iterator[None]:
    """A client, subscribed before the daemon starts, that queues what the broker delivers."""
    from paho.mqtt.client import Client, MQTTv5, MQTTv311
    from paho.mqtt.enums import CallbackAPIVersion

    subscribed: queue.SimpleQueue[None] = queue.SimpleQueue()
    protocol = MQTTv5 if broker.version == 5 else MQTTv311
    client = Client(CallbackAPIVersion.VERSION2, client_id=f"edge-classifier-try-{os.getpid()}", protocol=protocol)

    def on_connect(client: Client, *_: object) -> None:
        client.subscribe([(f"edge/+/{topic}", 1) for topic in ("event", "replay", "status")])

    def on_message(_client: Client, _userdata: object, message: MQTTMessage) -> None:
        messages.put((message.topic.rpartition("/")[2], bytes(message.payload)))

    client.on_connect = on_connect
    client.on_subscribe = lambda *_: subscribed.put(None)
    client.on_message = on_message
    client.connect(LOOPBACK, broker.port)
    client.loop_start()
    try:
        subscribed.get(timeout=10)
    except queue.Empty as error:
        client.loop_stop()
        raise BrokerError(f"{broker.name} on {broker.url} did not accept a subscription.") from error
    try:
        yield
    finally:
        client.disconnect()
        client.loop_stop()
