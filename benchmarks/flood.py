"""How strangers slow the camera down: real daemon, model, video and broker, before and during each attack.

Without a token these are fifty clients that flood /predict, and the kinds of tests/interfaces/web/strangers.py; with
one (`--token`) those that guess it. A frame's latency is from the moment it was due to the arrival of its event at a
subscriber; every frame makes one. The clients run at the lowest priority, because they share the processor with the
daemon, unlike real clients.

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
HERE = Path(__file__).parents[1] / "tests" / "interfaces" / "web"
TOKEN = "f3a1c0de5b7e4d2299aa"
# Of strangers.py, with and without a token.
GUESSING = ["half_body", "half_login", "guess"]
OPEN = ["silent", "half", "malformed", "bad_form", "upgrade", "reset", "values", "bad_origin", "bombs"]
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
[web]
token_file = "{token_file}"
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
    status = urllib.request.Request(f"{page}/api/status", headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(status, timeout=60) as answer:
        stages = json.load(answer)["latency_ms"]
    p50, p99 = (ages[int(len(ages) * share)] * 1000 for share in (0.5, 0.99))
    return Measured(len(ages) / (now - began), p50, p99, stages)


def attack(arguments: argparse.Namespace, kind: str, host: str, port: str) -> subprocess.Popen[str]:
    """Start the clients of one kind, which print the count of each answer as JSON at their end."""
    lasts = str(arguments.seconds + 2 * SETTLE_S)
    if kind == "flood":
        command = [str(HERE / "flood.py"), host, port, str(CLIENTS), lasts, str(arguments.photos)]
    else:
        command = [str(HERE / "strangers.py"), host, port, kind, lasts]
    return subprocess.Popen(["nice", "-n", "19", sys.executable, *command], stdout=subprocess.PIPE, text=True)


def report(arguments: argparse.Namespace, running: daemon_process.Daemon, subscriber: Subscriber) -> None:
    """Print the figures before and during each attack."""
    page = eventually(lambda: re.search(r"The page is at (http://([\d.]+):(\d+))", running.log), "the page is up", 60)
    eventually(lambda: len(subscriber.received) >= 10, "ten frames became events")
    for kind in GUESSING if arguments.token else ["flood", *OPEN]:
        time.sleep(SETTLE_S)
        before, lines = measure(page[1], subscriber, arguments.seconds), len(running.log.splitlines())
        strangers = attack(arguments, kind, page[2], page[3])
        time.sleep(SETTLE_S)
        during = measure(page[1], subscriber, arguments.seconds)
        answers, _ = strangers.communicate(timeout=120)
        if strangers.returncode != 0:
            raise SystemExit(f"A client of {kind} failed; its traceback is above.")
        print(f"\n{kind}, load average {os.getloadavg()[0]:.1f}; answers: {answers.strip()}")
        for when, one in (("before", before), ("during", during)):
            stages = ", ".join(f"{stage} {p['p50']:.0f}/{p['p99']:.0f}" for stage, p in one.stages.items())
            print(f"{when}: {one.frames_per_s:.2f} frames/s, p50/p99 {one.p50_ms:.0f}/{one.p99_ms:.0f} ms ({stages})")
        kept, grown = during.frames_per_s / before.frames_per_s, during.p99_ms / before.p99_ms
        more = len(running.log.splitlines()) - lines
        print(f"kept {kept:.0%} of the frames, p99 × {grown:.2f}; {more} lines in the log", flush=True)


def main() -> None:
    """Run the daemon and attack it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bundle", "video", "photos"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--token", action="store_true", help="the page has a token, and strangers guess it")
    arguments = parser.parse_args()
    print(f"camera at {arguments.fps:g} frames/s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Mosquitto(folder)
        broker.start()
        subscriber = Subscriber(broker, "+/+/event")
        token_file = folder / "token"
        token_file.write_text(TOKEN)
        token_file.chmod(0o600)
        config = folder / "config.toml"
        paths = {key: getattr(arguments, key).resolve() for key in ("bundle", "video")}
        paths["token_file"] = token_file if arguments.token else ""
        config.write_text(CONFIG.format(**paths, fps=arguments.fps, url=broker.url, folder=folder))
        try:
            with daemon_process.running(config) as running:
                report(arguments, running, subscriber)
                running.stop()
        finally:
            subscriber.close()
            broker.stop()


if __name__ == "__main__":
    main()
