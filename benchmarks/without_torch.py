"""Start and memory of the daemon with a bundle of ONNX Runtime, in processes in which torch cannot be imported.

    python -m benchmarks.without_torch BUNDLE VIDEO [--starts 7]

Targets: first label at most 0.8 s after the start, at most 160 MB resident. Needs mosquitto; Linux only. Exits with 1
if a library of torch is mapped.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import paho.mqtt.client as paho

# `None` is what Python's import system takes for "there is no such module".
_DAEMON = "import sys; sys.modules['torch'] = None; from edge.cli import main; sys.exit(main(['run']))"
_NAME = "measured"  # of the device
_GIVE_UP_S = 60
_STEADY_S = 5  # after the first label, and after each request
_PHOTO = (3024, 4032)  # height and width; 12 megapixels


def main() -> int:
    """Measure and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--starts", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _broker(Path(folder)) as port:
        settings = _settings(arguments.bundle, arguments.video, Path(folder), port)
        seconds, busy, mapped = [], [], 0
        for start in range(arguments.starts):
            with _first_label(port, settings) as (pid, label_s):
                seconds.append(label_s)
                busy.append(_processor_s(pid))
                if start == arguments.starts - 1:
                    mapped = _memory(pid, settings["WEB_LISTEN"], arguments.bundle / "golden.jpg")
    print(f"first label: {_spread(seconds)} s after the start, {_spread(busy)} s of processor time")
    print(f"load average {os.getloadavg()[0]:.1f}, {arguments.starts} starts; {mapped} mapped regions of torch")
    return 1 if mapped else 0


def _settings(bundle: Path, video: Path, folder: Path, broker: int) -> dict[str, str]:
    return {
        "CAMERA_SOURCE": f"file:{video.resolve()}",
        "CAMERA_LOOP": "true",
        "CAMERA_FPS": "10",
        "MODEL_BUNDLE": str(bundle),
        "MQTT_URL": f"mqtt://127.0.0.1:{broker}",
        "FALLBACK_PATH": f"{folder}/fallback.db",
        "WEB_LISTEN": f"127.0.0.1:{_free_port()}",
        "DEVICE_NAME": _NAME,
    }


def _memory(pid: int, web: str, golden: Path) -> int:
    """Print the resident memory at rest and after requests; returns the number of regions mapped for torch."""
    time.sleep(_STEADY_S)
    print(f"resident: {_resident(pid)}")
    for path in ("/", "/api/status", "/api/events"):
        _answer(web, path)
    time.sleep(_STEADY_S)
    print(f"after the page: {_resident(pid)}")
    small = cv2.imdecode(np.frombuffer(golden.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    photo = cv2.imencode(".jpg", cv2.resize(small, _PHOTO[::-1]))[1].tobytes()
    label = json.loads(_answer(web, "/predict", photo))["top"][0]["label"]
    time.sleep(_STEADY_S)
    print(f"after a photo of 12 megapixels ({label}): {_resident(pid)}")
    return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").count("torch")


def _answer(web: str, path: str, photo: bytes | None = None) -> bytes:
    request = urllib.request.Request(f"http://{web}{path}", photo, method="PUT" if photo else "GET")
    with urllib.request.urlopen(request, timeout=_GIVE_UP_S) as response:
        content: bytes = response.read()
        return content


@contextmanager
def _first_label(port: int, settings: dict[str, str]) -> Iterator[tuple[int, float]]:
    """Run the daemon; yields its process and the seconds from its start to the first event at a subscriber."""
    events: queue.Queue[float] = queue.Queue()
    listening: queue.Queue[None] = queue.Queue()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.on_message = lambda *_: events.put(time.perf_counter())
    client.on_subscribe = lambda *_: listening.put(None)
    client.connect("127.0.0.1", port)
    client.subscribe(f"edge/{_NAME}/event")
    client.loop_start()
    listening.get(timeout=_GIVE_UP_S)
    environment = os.environ | {"MALLOC_ARENA_MAX": "1"}  # as in systemd/drop-ins/without-torch.conf
    environment |= {f"EDGE_CLASSIFIER_{key}": value for key, value in settings.items()}
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", _DAEMON], env=environment) as daemon:
        try:
            yield daemon.pid, events.get(timeout=_GIVE_UP_S) - began
        finally:
            daemon.terminate()
            client.disconnect()
            client.loop_stop()


@contextmanager
def _broker(folder: Path) -> Iterator[int]:
    """Run mosquitto; yields its port."""
    port = _free_port()
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n", encoding="ascii")
    with subprocess.Popen(["mosquitto", "-c", str(config)], stderr=subprocess.DEVNULL) as broker:
        try:
            until = time.monotonic() + _GIVE_UP_S
            while not _listens(port):
                if broker.poll() is not None or time.monotonic() > until:
                    raise SystemExit("mosquitto does not listen; run it by hand.")
                time.sleep(0.05)
            yield port
        finally:
            broker.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _processor_s(pid: int) -> float:
    """The processor time of all threads of a process."""
    return time.clock_gettime((~pid << 3) | 2)  # Linux's clock of another process


def _resident(pid: int) -> str:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    total, pages = (int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "RssFile"))
    return f"{total:.0f} MB, {pages:.0f} of them pages of libraries"


def _spread(values: list[float]) -> str:
    return f"median {statistics.median(values):.2f}, minimum {min(values):.2f}"


if __name__ == "__main__":
    sys.exit(main())
