"""Tests that photos made to cost a decoder time and memory, over the page and MQTT at once, cost the daemon neither."""

import base64
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import daemon_process
from tests.broker import Brokers, eventually
from tests.interfaces.web.whole import page_of, write_config
from tests.photos.bombs import huge_tile, many_scans
from tests.photos.kinds import encoded
from tests.request_box import Asker
from tests.strangers_decoder import cpu_s, decoders_of, peak_bytes

FRAMES_PER_S = 10  # of `write_config`
SECONDS = 6.0
GROWTH_BYTES = 48 << 20  # the bodies of the requests, and the page's framework; decoded, the TIFF takes 1,048 MB


def frames(client: httpx.Client) -> float:
    families = text_string_to_metric_families(client.get("/metrics").text)
    value = {sample.name: sample.value for family in families for sample in family.samples}
    return value["edge_classifier_frames_classified_total"]


def attack(address: str, photos: list[bytes], until: float, answers: list[tuple[int, str, float]]) -> None:
    with httpx.Client(base_url=address, timeout=60) as client:
        while time.monotonic() < until:
            for photo in photos:
                began = time.monotonic()
                answer = client.post("/predict", files={"file": ("it", photo)})
                answers.append((answer.status_code, answer.json()["detail"], time.monotonic() - began))


@pytest.mark.timeout(200)
def test_the_camera_keeps_its_rate_and_the_daemon_its_memory(
    photo_video: Path, light_bundle: Path, brokers: Brokers, tmp_path: Path
) -> None:
    broker = brokers.start()
    config = write_config(tmp_path / "run", photo_video, light_bundle, broker.url)
    slow, tile, answers = many_scans(), huge_tile(), list[tuple[int, str, float]]()
    with daemon_process.running(config, light=True) as running:
        running.wait_ready()
        address, asker = page_of(running), Asker(broker)
        with httpx.Client(base_url=address, timeout=30) as client:
            assert client.post("/predict", files={"file": encoded("PNG")}).status_code == 200
            before_bytes, frames_before, began = peak_bytes(running.process.pid), frames(client), time.monotonic()
            attacker = threading.Thread(target=attack, args=(address, [slow, tile], began + SECONDS, answers))
            attacker.start()
            refused = asker.ask("classify", {"image": base64.b64encode(slow).decode()})
            assert refused["error"].startswith("image takes more than 2 s to decode; ")
            attacker.join()
            rate = (frames(client) - frames_before) / (time.monotonic() - began)
            grown = peak_bytes(running.process.pid) - before_bytes
            print(f"{rate:.1f} frames/s, {grown / 1e6:.0f} MB more; {[round(took, 2) for *_, took in answers]} s")
            assert rate >= 0.8 * FRAMES_PER_S
            assert grown < GROWTH_BYTES
            assert {status for status, *_ in answers} == {413, 422}
            assert client.post("/predict", files={"file": encoded("PNG")}).status_code == 200
        asker.close()
        (child,) = decoders_of(running.process.pid)
        before_s = cpu_s(child)
        with ThreadPoolExecutor(1) as other:
            last = other.submit(httpx.post, f"{address}/predict", files={"file": slow}, timeout=60)
            eventually(lambda: cpu_s(child) > before_s + 0.1, "it decodes")
            assert running.stop() < daemon_process.STOP_WITHIN_S + daemon_process.SLACK_S
            assert last.exception() or last.result().status_code == 503
        assert not Path(f"/proc/{child}").exists()
        assert "libpng" not in running.log
        assert "Traceback" not in running.log
