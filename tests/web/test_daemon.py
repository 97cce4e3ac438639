"""The whole daemon with real weights, a real video and a real broker: the page answers, fast, and ends with it."""

import csv
import time
from pathlib import Path

import httpx
import pytest

from tests import daemon
from tests.broker import Brokers
from tests.web.whole import page_of, write_config

PHOTOS = 12


@pytest.mark.timeout(300)
def test_a_photo_is_answered_within_half_a_second_beside_a_running_camera(
    testdata: Path, bundle_dir: Path, brokers: Brokers, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "run", testdata, bundle_dir, brokers.start().url)
    with (testdata / "photos" / "labelled" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:PHOTOS]
    with daemon.running(config) as running:
        running.wait_ready()
        with httpx.Client(base_url=page_of(running), timeout=30) as client:
            right, seconds = 0, []
            for row in rows:
                content = (testdata / "photos" / "labelled" / row["file"]).read_bytes()
                began = time.perf_counter()
                answer = client.post("/predict", files={"file": content}).json()
                seconds.append(time.perf_counter() - began)
                right += answer["top"][0]["index"] == int(row["index"])
            assert right >= PHOTOS * 0.5
            assert sorted(seconds)[len(seconds) // 2] < 0.5
            status = client.get("/api/status").json()
            assert status["photos_classified"] == PHOTOS
            assert client.get("/api/latest").json()["device"] == "porch"
            assert client.get("/snapshot.jpg").content.startswith(b"\xff\xd8")
            assert client.get("/api/model").json()["files"]["model.ts"]
        print(f"median {sorted(seconds)[len(seconds) // 2] * 1000:.0f} ms, slowest {max(seconds) * 1000:.0f} ms")
        assert running.stop() < daemon.STOP_WITHIN_S + daemon.SLACK_S
        assert running.process.returncode == 0
