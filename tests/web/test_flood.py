"""Fifty clients hammer /predict: the camera keeps its rate, some are answered, the rest gets 429."""

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.web.box import Box, has, running

CLIENTS = 50
INFERENCE_S = 0.04
FRAMES_PER_S = 20  # 80 % of what the model can do
SECONDS = 4.0
TRIES = 3  # other work on the machine may spoil a measurement; a page that slows the camera spoils all


def frames_per_s(box: Box, seconds: float) -> float:
    began, before = time.monotonic(), box.status.snapshot().counters["frames_classified"]
    time.sleep(seconds)  # the measurement
    return (box.status.snapshot().counters["frames_classified"] - before) / (time.monotonic() - began)


def flooded(box: Box) -> tuple[float, float, dict[str, int]]:
    """Rate before, rate during, and the count of each status."""
    before = frames_per_s(box, 2.0)
    address = box.server.address.removeprefix("http://").rpartition(":")
    arguments = [address[0], address[2], str(CLIENTS), str(SECONDS)]
    flood = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("flood.py")), *arguments], stdout=subprocess.PIPE, text=True
    )
    photos = box.status.snapshot().counters.get("photos_classified", 0)
    assert has(lambda: box.status.snapshot().counters.get("photos_classified", 0) > photos)
    during = frames_per_s(box, SECONDS - 1)
    answered, _ = flood.communicate(timeout=60)
    assert flood.returncode == 0
    return before, during, json.loads(answered)


def test_fifty_clients_leave_the_camera_four_fifths_of_its_rate() -> None:
    tries = []
    with running(frames_per_s=FRAMES_PER_S, inference_s=INFERENCE_S) as box:
        for _ in range(TRIES):
            before, during, statuses = flooded(box)
            tries.append(f"{during:.1f} of {before:.1f} frames/s, {statuses}")
            assert set(statuses) == {"200", "429"}
            assert statuses["200"] >= 4
            assert statuses["429"] > statuses["200"]
            if during >= 0.8 * before:
                break
        else:
            raise AssertionError(tries)
    print(tries)
