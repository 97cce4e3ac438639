"""How fifty clients at /predict slow the camera down: real daemon, model, video and broker, before and during a flood.

A frame's latency is from the moment it was due to the arrival of its event at a subscriber; every frame makes one.
The clients run at the lowest priority, because they share the processor with the daemon, unlike real clients.

    PYTHONPATH=. python -m benchmarks.flood --bundle BUNDLE --video VIDEO --photos DIR --fps 10
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

from tests import daemon_process
from tests.broker import Mosquitto, Subscriber, eventually

CLIENTS = 50
FLOOD = Path(__file__).parents[1] / "tests" / "interfaces" / "web" / "flood.py"
SETTLE_S = 3.0  # after the start, and between the flood's first answers and the measurement
CONFIG = """
[device]
name = "flood"
[camera]
source = "file:{video}"
fps = {fps}
loop = true
[model]
bundle = "{bundle}"
[decision]
every_frame = true
[mqtt]
url = "{url}"
[fallback]
path = "{folder}/fallback.db"
"""


class Measured(NamedTuple):
    """The figures of one span of time."""

    frames_per_s: float
    p50_ms: float
    p99_ms: float
    stages: dict[str, dict[str, float]]  # the daemon's own percentiles of its last 512 frames, ms


def measure(page: str, subscriber: Subscriber, seconds: float) -> Measured:
    """Measure the events that arrive within `seconds`."""
    seen = len(subscriber.received)
    began = time.monotonic()
    time.sleep(seconds)  # the measurement
    now = time.monotonic()
    messages = subscriber.received[seen:]
    offset_s = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    ages = sorted(message.at + offset_s - message.json()["uptime_s"] for message in messages)
    with urllib.request.urlopen(f"{page}/api/status", timeout=60) as answer:
        stages = json.load(answer)["latency_ms"]
    p50, p99 = (ages[int(len(ages) * share)] * 1000 for share in (0.5, 0.99))
    return Measured(len(ages) / (now - began), p50, p99, stages)


def flooded(
    arguments: argparse.Namespace, running: daemon_process.Daemon, subscriber: Subscriber
) -> tuple[Measured, Measured, dict[str, int]]:
    """The figures before and during the flood, and the count of each HTTP status that the clients got."""
    page = eventually(lambda: re.search(r"The page is at (http://([\d.]+):(\d+))", running.log), "the page is up", 60)
    eventually(lambda: len(subscriber.received) >= 10, "ten frames became events")
    time.sleep(SETTLE_S)
    before = measure(page[1], subscriber, arguments.seconds)
    lasts = str(arguments.seconds + 2 * SETTLE_S)
    address = [page[2], page[3], str(CLIENTS), lasts, str(arguments.photos)]
    command = ["nice", "-n", "19", sys.executable, str(FLOOD), *address]
    flood = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    time.sleep(SETTLE_S)
    during = measure(page[1], subscriber, arguments.seconds)
    answers, _ = flood.communicate(timeout=120)
    if flood.returncode != 0:
        raise SystemExit("A client of the flood failed; its traceback is above.")
    return before, during, json.loads(answers)


def main() -> None:
    """Run the daemon, flood it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bundle", "video", "photos"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Mosquitto(folder)
        broker.start()
        subscriber = Subscriber(broker, "+/+/event")
        config = folder / "config.toml"
        paths = {key: getattr(arguments, key).resolve() for key in ("bundle", "video")}
        config.write_text(CONFIG.format(**paths, fps=arguments.fps, url=broker.url, folder=folder))
        try:
            with daemon_process.running(config) as running:
                before, during, answers = flooded(arguments, running, subscriber)
                running.stop()
        finally:
            subscriber.close()
            broker.stop()
    print(f"{CLIENTS} clients, camera at {arguments.fps:g} frames/s, load average {os.getloadavg()[0]:.1f}")
    for when, one in (("before", before), ("during", during)):
        stages = ", ".join(f"{stage} {p['p50']:.0f}/{p['p99']:.0f}" for stage, p in one.stages.items())
        print(f"{when}: {one.frames_per_s:.2f} frames/s, p50/p99 {one.p50_ms:.0f}/{one.p99_ms:.0f} ms ({stages})")
    kept, grown = during.frames_per_s / before.frames_per_s, during.p99_ms / before.p99_ms
    print(f"kept {kept:.0%} of the frames, p99 × {grown:.2f}")
    print(f"answers: {answers}")


if __name__ == "__main__":
    main()
