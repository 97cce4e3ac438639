"""Tests that with fifty clients flooding /predict the camera keeps its rate, some get answers and the rest gets 429."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.interfaces.web.box import Box, has, running

CLIENTS = 50
INFERENCE_S = 0.04
FRAMES_PER_S = 20  # 80 % of what the model can do
SECONDS = 5.0
SCHEDULER_S = 0.03
TRIES = 4  # other work may spoil one measurement; a page that slows the camera spoils all


class Measured(NamedTuple):
    frames_per_s: float
    p99_s: float  # from capture to decision


def measured(box: Box, seconds: float) -> Measured:
    box.ages.clear()
    began = time.monotonic()
    time.sleep(seconds)  # the measurement
    ages = sorted(box.ages)
    return Measured(len(ages) / (time.monotonic() - began), ages[int(len(ages) * 0.99)])


def flooded(box: Box) -> tuple[Measured, Measured, dict[str, int]]:
    """Measurements before and during the flood, and the number of answers with each status."""
    before = measured(box, 3.0)
    address = box.server.address.removeprefix("http://").rpartition(":")
    arguments = [address[0], address[2], str(CLIENTS), str(SECONDS)]
    # Real clients have their own processors; these only use processor time that is left over.
    command = ["nice", "-n", "19", sys.executable, str(Path(__file__).with_name("flood.py")), *arguments]
    flood = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    photos = box.status.snapshot().counters.get("photos_classified", 0)
    assert has(lambda: box.status.snapshot().counters.get("photos_classified", 0) > photos)
    during = measured(box, SECONDS - 1)
    answered, _ = flood.communicate(timeout=60)
    assert flood.returncode == 0
    return before, during, json.loads(answered)


def test_fifty_clients_leave_the_camera_four_fifths_of_its_rate() -> None:
    tries = []
    with running(frames_per_s=FRAMES_PER_S, inference_s=INFERENCE_S) as box:
        for _ in range(TRIES):
            before, during, statuses = flooded(box)
            tries.append((before, during, statuses))
            assert set(statuses) == {"200", "429"}
            assert statuses["200"] >= 4
            assert statuses["429"] >= 4
            # A frame may wait for one photo's inference; on a busy machine the kernel's scheduler adds to that.
            waits_once = during.p99_s <= before.p99_s + INFERENCE_S + SCHEDULER_S
            if during.frames_per_s >= 0.8 * before.frames_per_s and waits_once:
                break
        else:
            raise AssertionError(tries)
    print(tries)
