"""Tests that a hanging or failing inference, and a reached memory limit, cost a restart but no event that was safe."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.broker import eventually
from tests.conftest import Configure
from tests.daemon_process import Daemon, run_command, running
from tests.interfaces.web.whole import page_of, write_config
from tests.photos.kinds import encoded, saved

EXIT_STUCK = 75
CGROUP_V1 = Path("/sys/fs/cgroup/memory")
CGROUP_V2 = Path("/sys/fs/cgroup")
KILL_COSTS_S = 3.0  # the promise
SLACK_S = 1.0
ROOM_BYTES = 256 << 20


def logged(config: Path) -> list[dict[str, object]]:
    """The events in the fallback log."""
    shown = run_command("fallback", "export", "--config", config)
    assert shown.returncode == 0, shown.stderr
    return [json.loads(line) for line in shown.stdout.splitlines()]


def counters(events: list[dict[str, object]]) -> list[int]:
    return [int(str(event["id"]).rpartition("-")[2]) for event in events]


@pytest.fixture
def config(configure: Configure, testdata: Path) -> Path:
    """A config for ten numbered events a second from a looping video, without a broker."""
    source = f"file:{testdata / 'video' / 'vtest.avi'}"
    return configure(
        camera_source=source, camera_loop=True, camera_fps=10, decision_every_frame=True, mqtt_url="mqtt://127.0.0.1:9"
    )


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [("hang", EXIT_STUCK, "inference has not moved for"), ("raise", 1, "the model fell apart")],
)
def test_a_model_that_fails_is_reported_and_every_event_before_it_is_in_the_log(
    config: Path, tmp_path: Path, fault: str, code: int, message: str
) -> None:
    script = Path(__file__).with_name("faulty_model.py")
    daemon = Daemon([sys.executable, str(script), str(config), fault, "25"], tmp_path)
    try:
        daemon.wait_ready()
        assert daemon.wait(within_s=60) == code
        assert message in daemon.log
    finally:
        daemon.close()
    assert counters(logged(config)) == list(range(25))


def test_a_stop_while_the_model_loads_is_heeded_at_once(config: Path, tmp_path: Path) -> None:
    """Loading takes most of a minute on a small board; a shutdown must not wait for it."""
    script = Path(__file__).with_name("faulty_model.py")
    daemon = Daemon([sys.executable, str(script), str(config), "load", "0"], tmp_path)
    try:
        eventually(lambda: "the model never loads" in daemon.log, "it loads", 60)
        daemon.stop()
        assert daemon.process.returncode == -signal.SIGTERM  # systemd treats this as a clean exit
    finally:
        daemon.close()


@pytest.fixture
def memory_limit() -> Iterator[Path]:
    """A memory cgroup for the test; a process is added by writing its id."""
    if (CGROUP_V2 / "cgroup.controllers").exists():
        parent, name = CGROUP_V2, "memory.max"
    else:
        parent, name = CGROUP_V1, "memory.limit_in_bytes"
    group = parent / f"edge-classifier-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here ({error.strerror})")
    if not (group / name).exists():
        group.rmdir()
        pytest.skip("the memory controller is not available in this cgroup")
    yield group / name
    eventually(lambda: not (group / "cgroup.procs").read_text().strip(), "the cgroup is empty", 20)
    group.rmdir()


def test_a_memory_limit_that_is_reached_costs_at_most_the_last_3_s(
    config: Path, tmp_path: Path, memory_limit: Path
) -> None:
    script = Path(__file__).with_name("faulty_model.py")
    daemon = Daemon([sys.executable, str(script), str(config), "leak", "50"], tmp_path)
    try:
        (memory_limit.parent / "cgroup.procs").write_text(str(daemon.process.pid))
        daemon.wait_ready()
        memory_limit.write_text(str(used_bytes(memory_limit.parent) + ROOM_BYTES))
        alive_at = 0.0
        while daemon.process.poll() is None:
            alive_at = time.clock_gettime(time.CLOCK_BOOTTIME)
            threading.Event().wait(0.05)
        assert daemon.process.returncode == -9, daemon.log  # from the kernel, as with MemoryMax=
    finally:
        daemon.close()
    events = logged(config)
    assert counters(events) == list(range(len(events))), "a gap before the last three seconds"
    assert len(events) >= 50
    assert alive_at - float(str(events[-1]["uptime_s"])) <= KILL_COSTS_S + SLACK_S

    again = Daemon([sys.executable, "-m", "edge", "run", "--config", str(config)], tmp_path)
    try:
        again.wait_ready()
        assert again.stop() <= 8
        assert again.process.returncode == 0
    finally:
        again.close()
    assert counters(logged(config))[: len(events)] == list(range(len(events)))


def test_a_memory_limit_that_a_photo_reaches_costs_the_photo_alone(
    light_bundle: Path, photo_video: Path, tmp_path: Path, memory_limit: Path
) -> None:
    config = write_config(tmp_path / "run", photo_video, light_bundle, "mqtt://127.0.0.1:1")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned, for which OpenCV needs the 144 MB of pixels twice
    large = saved(Image.new("RGB", (8000, 6000)), "JPEG", exif=exif)
    with running(config, light=True) as daemon:
        (memory_limit.parent / "cgroup.procs").write_text(str(daemon.process.pid))
        daemon.wait_ready()
        with httpx.Client(base_url=page_of(daemon), timeout=60) as client:
            assert client.post("/predict", files={"file": encoded("PNG")}).status_code == 200
            memory_limit.write_text(str(used_bytes(memory_limit.parent) + ROOM_BYTES))
            refused = client.post("/predict", files={"file": large})
            assert refused.status_code == 413
            assert "the decoder was killed, as the system does where memory runs out" in refused.json()["detail"]
            assert client.post("/predict", files={"file": encoded("BMP")}).status_code == 200
        daemon.stop()
        assert daemon.process.returncode == 0


def used_bytes(group: Path) -> int:
    """The group's memory use now, including caches."""
    file = group / "memory.current"
    return int((file if file.exists() else group / "memory.usage_in_bytes").read_text())
