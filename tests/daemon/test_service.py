"""Tests the real daemon as a whole: real pictures become labels at a real broker, and no accepted event is lost."""

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest

from edge.interfaces.unix_socket import SOCKET, ask
from tests.broker import Brokers, eventually
from tests.conftest import Configure
from tests.daemon_process import SLACK_S, STOP_WITHIN_S, Daemon, run_command, running
from tests.samples import LABELS, VIDEO_FRAMES


@pytest.fixture
def photos(photos_dir: Path, tmp_path: Path) -> Path:
    """A folder with three real photos whose class the model is sure of."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in LABELS:
        shutil.copy(next(photos_dir.glob(f"{name}.*")), folder)
    return folder


def test_real_photos_become_labels_at_a_real_broker(configure: Configure, photos: Path, brokers: Brokers) -> None:
    broker = brokers.start()
    subscriber = brokers.subscribe(broker)
    config = configure(camera_source=f"file:{photos}", camera_loop=True, camera_fps=4, mqtt_url=broker.url)
    with running(config) as daemon:
        daemon.wait_ready()
        eventually(lambda: len(subscriber.on("event")) >= 7, "seven events came")
        assert daemon.stop() <= STOP_WITHIN_S + SLACK_S
        assert daemon.process.returncode == 0
        daemon.wait_notified("STOPPING=1")

    events = [message.json() for message in subscriber.on("event")]
    assert [event["label"] for event in events[:6]] == [*LABELS.values()] * 2
    assert {event["reason"] for event in events} == {"change"}
    for number, event in enumerate(events):
        assert event["id"].endswith(f"-{number:06d}")
        assert event["device"] == "porch"
        assert [top["confidence"] for top in event["top"]] == sorted(
            (top["confidence"] for top in event["top"]), reverse=True
        )
        assert event["model"].startswith("efficientnet_lite0-int8-")
        assert set(event["latency_ms"]) == {"capture", "preprocess", "inference"}
    assert subscriber.on("prediction")[-1].json() == events[-1]
    availability = [m.payload for m in subscriber.on("availability") if "/camera/" not in m.topic]
    assert availability == [b"online", b"offline"]
    assert subscriber.on("camera/availability")[0].payload == b"online"
    assert json.loads(subscriber.on("status")[-1].payload)["camera"] == "online"


def test_a_video_without_a_broker_ends_with_everything_in_the_log(
    configure: Configure, photo_video: Path, light_bundle: Path
) -> None:
    config = configure(
        camera_source=f"file:{photo_video}",
        model_bundle=str(light_bundle),
        decision_every_frame=True,
        mqtt_url="mqtt://127.0.0.1:9",
    )
    with running(config, light=True) as daemon:
        assert daemon.wait(within_s=100) == 0
        assert daemon.log.count("No broker listens") <= 2  # a repeated fault is not logged each time
        daemon.wait_notified("STOPPING=1")
    shown = run_command("fallback", "export", "--config", config)
    assert shown.returncode == 0, shown.stderr
    events = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [int(event["id"].rsplit("-", 1)[1]) for event in events] == list(
        range(VIDEO_FRAMES)
    )  # every frame of the clip


def test_sighup_applies_what_is_live_and_names_what_waits(
    configure: Configure, photos: Path, light_bundle: Path, brokers: Brokers
) -> None:
    broker = brokers.start()
    subscriber = brokers.subscribe(broker)
    camera = {"camera_source": f"file:{photos}", "camera_loop": True, "mqtt_url": broker.url}
    camera["model_bundle"] = str(light_bundle)
    config = configure(**camera, camera_fps=4)
    with running(config, light=True) as daemon:
        daemon.wait_ready()
        configure(**camera, camera_fps=20, decision_min_confidence=100, decision_heartbeat_s=100, camera_rotate=90)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_notified("RELOADING=1")
        eventually(lambda: "a restart is needed for camera.rotate" in daemon.log, "the log names what waits")
        eventually(
            lambda: any(message.json()["label"] == "unknown" for message in subscriber.on("event")),
            "the new minimum is in force",
        )
        eventually(
            lambda: subscriber.on("config")[-1].json()["components"]["label"]["expire_after"] == 210,
            "Home Assistant learns the new heartbeat",
        )
        config.write_text("[decision]\nhold_s = 'x'\n", encoding="utf-8")
        daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda: "Keeping the running settings" in daemon.log, "a broken config changes nothing")
        assert daemon.stop(signal.SIGINT) <= STOP_WITHIN_S + SLACK_S
        assert daemon.process.returncode == 0


def test_what_a_request_has_set_is_in_the_status_until_a_reload(
    configure: Configure, photo_video: Path, light_bundle: Path, tmp_path: Path
) -> None:
    config = configure(
        camera_source=f"file:{photo_video}",
        camera_loop=True,
        camera_fps=10,
        model_bundle=str(light_bundle),
        mqtt_url="mqtt://127.0.0.1:9",
    )
    with running(config, light=True) as daemon:
        daemon.wait_ready()
        socket = tmp_path / "state" / SOCKET
        eventually(socket.exists, "the daemon takes requests")
        assert ask(socket, "set", {"fps": 2.5}) == {"status": "ok", "fps": 2.5}
        ask(socket, "set", {"min_confidence": 35.0})
        said = "camera.fps = 2.5 and decision.min_confidence = 35 by a request, until the next reload"
        eventually(lambda: any(said in line for line in daemon.notifications), "systemctl status shows it")
        ask(socket, "reload", {})
        eventually(lambda: "by a request" not in daemon.wait_notified("STATUS="), "and no longer after a reload")
        daemon.stop()


def test_a_camera_that_never_returns_costs_a_restart_and_no_event(
    configure: Configure, light_bundle: Path, tmp_path: Path
) -> None:
    config = configure(
        model_bundle=str(light_bundle), camera_stall_after_s=1, decision_every_frame=True, mqtt_url="mqtt://127.0.0.1:9"
    )
    daemon = Daemon(
        [sys.executable, str(Path(__file__).parents[1] / "stuck_camera.py"), str(config), "20", "light"], tmp_path
    )
    try:
        daemon.wait_ready()
        assert daemon.wait(within_s=30) == 75
        assert "camera has not moved for" in daemon.log
    finally:
        daemon.close()
    events = run_command("fallback", "export", "--config", config).stdout.splitlines()
    numbers = [int(json.loads(line)["id"].rsplit("-", 1)[1]) for line in events]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 1


@pytest.mark.parametrize(("break_it", "message"), [("trunk.ts", "trunk.ts"), ("bundle.json", "bundle.json")])
def test_a_tampered_bundle_is_a_sentence_and_exit_code_65(
    configure: Configure, bundle_dir: Path, tmp_path: Path, break_it: str, message: str
) -> None:
    copy = tmp_path / bundle_dir.name
    shutil.copytree(bundle_dir, copy)
    content = bytearray((copy / break_it).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / break_it).write_bytes(content)
    with running(configure(model_bundle=str(copy), mqtt_url="mqtt://127.0.0.1:9")) as daemon:
        assert daemon.wait(within_s=90) == 65
        assert message in daemon.log
        assert "Traceback" not in daemon.log
        assert "READY=1" not in daemon.notifications


def test_a_missing_bundle_says_how_to_make_one(configure: Configure, tmp_path: Path) -> None:
    with running(configure(model_bundle=str(tmp_path / "none"), mqtt_url="mqtt://127.0.0.1:9")) as daemon:
        assert daemon.wait(within_s=90) == 65
        assert "edge-classifier export" in daemon.log
        assert "Traceback" not in daemon.log
