"""What `doctor` looks at: each check is one function that returns what it found, with a remedy where there is one."""

from __future__ import annotations

import platform
import queue
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge import host
from edge.errors import EdgeClassifierError
from edge.settings import MqttSettings, Settings

Severity = Literal["ok", "warning", "failure"]
WITHIN_S = 60.0  # importing torch takes half of it on a Zero 2 W
BROKER_WITHIN_S = 10.0
HOT_CELSIUS = 80.0  # a Pi slows down from here on
UNIT = "edge-classifier"
# In a process of its own: an illegal instruction, or a driver that blocks, ends that process alone.
TORCH = "import torch, torch.backends.xnnpack as xnnpack; print(torch.__version__, xnnpack.enabled)"
MODEL = """\
import sys
from pathlib import Path
from edge.settings import ModelSettings
from edge.vision.bundle import load_bundle
from edge.vision.classifier import Classifier
from edge.errors import EdgeClassifierError
try:
    print(Classifier(load_bundle(Path(sys.argv[1])), ModelSettings()).name)
except EdgeClassifierError as error:
    sys.exit(str(error))
"""
CAMERA = """\
import sys
from edge.camera.geometry import FrameBuffers
from edge.camera.source import make_source
from edge.settings_file import load_settings
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


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    severity: Severity
    sentence: str
    remedy: str = ""


def userland() -> Finding:
    """torch has no 32-bit wheels, and a 64-bit kernel with a 32-bit userland is common on a Pi."""
    machine = platform.machine()
    if sys.maxsize > 2**32 and machine in ("aarch64", "x86_64"):
        return Finding("userland", "ok", f"64-bit {machine}, Python {platform.python_version()}, {host.board()}")
    bits = sys.maxsize.bit_length() + 1
    remedy = "Install a 64-bit system, such as Raspberry Pi OS (64-bit)."
    return Finding("userland", "failure", f"This is {machine} with a {bits}-bit Python.", remedy)


def torch() -> Finding:
    """torch runs on this processor, and on ARM with the kernels that make INT8 quick."""
    ran = _run(TORCH)
    pins = "Install the version of constraints.txt: sudo ./install.sh does."
    if ran.code == -4:
        return Finding("torch", "failure", "torch dies with an illegal instruction on this processor.", pins)
    if ran.code != 0:
        return Finding("torch", "failure", f"torch cannot be imported: {ran.last_line}", pins)
    version, _, xnnpack = ran.output.partition(" ")
    if platform.machine() == "aarch64" and xnnpack != "True":
        slow = f"torch {version} is built without XNNPACK; INT8 takes several times as long."
        return Finding("torch", "warning", slow, pins)
    return Finding("torch", "ok", f"torch {version}")


def model(settings: Settings) -> Finding:
    """Every checksum of the bundle, and its answer to its golden photo."""
    ran = _run(MODEL, str(settings.model.bundle))
    if ran.code == 0:
        return Finding("model", "ok", f"{ran.output}: every checksum and the golden photo are right")
    return Finding("model", "failure", ran.last_line)


def camera(config: Path | None) -> Finding:
    """A frame arrives; not looked at while the daemon has the camera."""
    if _property("ActiveState") == "active":
        status = _property("StatusText")
        if "camera online" in status:
            return Finding("camera", "ok", "the running service has it, and frames arrive")
        return Finding("camera", "warning", f"the service says: {status}")
    ran = _run(CAMERA, str(config or ""))
    if ran.code == 0:
        return Finding("camera", "ok", ran.output)
    return Finding("camera", "warning", ran.last_line)


def broker(mqtt: MqttSettings, device: str) -> Finding:
    """It is reachable, takes us, and its access list lets us write below our own name."""
    from edge.delivery.connection import Acknowledged, Connected, Connection, Ended, Report

    where = f"{mqtt.host}:{mqtt.port}"
    topic = f"{mqtt.base}/{device}/doctor"
    reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
    # An id of its own: with the daemon's the broker would throw the daemon out.
    connection = Connection(mqtt, f"{device}-doctor", topic, reports.put)
    connection.start()
    until = time.monotonic() + BROKER_WITHIN_S
    late = f"The broker at {where} gave no answer in {BROKER_WITHIN_S:.0f} s."
    silent = Finding("broker", "warning", late, "Check [mqtt] in the config.")
    try:
        while (left_s := until - time.monotonic()) > 0:
            match reports.get(timeout=left_s):
                case Connected():
                    connection.publish(topic, b"", False)
                case Acknowledged(reason=""):
                    return Finding("broker", "ok", f"{where} takes us, and lets us write to {mqtt.base}/{device}/")
                case Acknowledged(reason=reason):
                    refusal = f"The broker at {where} refuses {topic}: {reason}"
                    return Finding("broker", "warning", refusal, f"Let our user write {mqtt.base}/{device}/#.")
                case Ended(sentence=sentence):
                    return Finding("broker", "warning", sentence)
    except queue.Empty:
        return silent
    except EdgeClassifierError as error:
        return Finding("broker", "warning", str(error))
    finally:
        connection.disconnect()
        connection.join(5.0)
    return silent


def clock() -> Finding:
    """The kernel's own word on NTP."""
    if host.clock_synchronised():
        return Finding("clock", "ok", "synchronised")
    remedy = "Wait a minute after boot, then look at: timedatectl timesync-status"
    return Finding("clock", "warning", "not synchronised: events say that their time is not certain", remedy)


def power(root: Path = host.ROOT) -> Finding:
    """Supply and heat, which nobody sees on a box without a screen."""
    strain, celsius = host.throttled(root), host.temperature_celsius(root)
    heat = "no sensor" if celsius is None else f"{celsius:.0f} °C"
    if strain.under_voltage:
        return Finding(
            "power", "warning", f"The supply sags ({heat}).", "Use the board's own supply and a short cable."
        )
    if strain.throttled or (celsius or 0) >= HOT_CELSIUS:
        return Finding(
            "power", "warning", f"The processor is slowed down or hot ({heat}).", "Give it a heat sink and air."
        )
    return Finding("power", "ok", heat)


def disk(settings: Settings) -> Finding:
    """Room for the fallback log to grow to its bound."""
    directory = settings.fallback.path.parent
    while not directory.exists():
        directory = directory.parent
    free, wanted = shutil.disk_usage(directory).free, settings.fallback.max_bytes
    told = f"{free / 1e6:,.0f} MB free, and the fallback log may take {wanted / 1e6:,.0f} MB"
    if free > wanted:
        return Finding("disk", "ok", told)
    return Finding("disk", "warning", told, "Make room, or lower fallback.max_bytes.")


def service() -> Finding:
    """The unit is there and runs, and how often it had to be started again."""
    if not Path("/run/systemd/system").is_dir() or _property("LoadState") != "loaded":
        return Finding("service", "warning", "not installed as a service", "Install it: sudo ./install.sh")
    state, restarts = _property("ActiveState"), _property("NRestarts")
    if state != "active":
        why = f"{state}, last result: {_property('Result')}"
        return Finding("service", "failure", why, f"Look at: journalctl -u {UNIT} -n 50")
    if restarts != "0":
        return Finding(
            "service", "warning", f"runs, restarted {restarts} times", f"Look at: journalctl -u {UNIT} -p warning"
        )
    return Finding("service", "ok", "runs, without a restart")


def every_check(settings: Settings, config: Path | None) -> list[Callable[[], Finding]]:
    """The checks, from what everything needs to what is least urgent."""
    return [
        userland,
        torch,
        lambda: model(settings),
        lambda: camera(config),
        lambda: broker(settings.mqtt, settings.device.name),
        clock,
        power,
        lambda: disk(settings),
        service,
    ]


@dataclass(frozen=True, slots=True)
class _Ran:
    code: int
    output: str
    last_line: str  # of its complaint


def _run(program: str, *arguments: str) -> _Ran:
    try:
        ran = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, *arguments],
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _Ran(1, "", f"no answer within {WITHIN_S:.0f} s")
    return _Ran(
        ran.returncode, ran.stdout.strip(), (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
    )


def _property(name: str) -> str:
    try:
        told = subprocess.run(["systemctl", "show", "-P", name, UNIT], capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no systemd
        return ""
    return told.stdout.strip()
