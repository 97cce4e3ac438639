"""Tests real V4L2 and real libcamera on the kernel's virtual cameras, on machines that have them.

`modprobe vivid n_devs=1 node_types=0x1` and `modprobe vimc` create them; root may unplug them. Elsewhere the tests
skip.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.camera import csi, v4l2
from edge.camera.capture import Capture
from edge.camera.geometry import FrameBuffers, Geometry
from edge.frames import Pixels
from edge.settings.schema import CameraSettings
from edge.status.snapshot import Status

Start = Callable[..., Capture]
Wait = Callable[..., None]
CHECKOUT = Path(__file__).parent.parent.parent
DRIVERS = Path("/sys/bus/platform/drivers")
# The test pattern of both: 75 % colour bars from left to right.
BARS = ["white", "yellow", "cyan", "green", "magenta", "red", "blue", "black"]


def bar_names(pixels: Pixels) -> list[str]:
    """The colours of eight bars from left to right, in the rows without text."""
    height, width, _ = pixels.shape
    names = {
        (1, 1, 1): "white",
        (1, 1, 0): "yellow",
        (0, 1, 1): "cyan",
        (0, 1, 0): "green",
        (1, 0, 1): "magenta",
        (1, 0, 0): "red",
        (0, 0, 1): "blue",
        (0, 0, 0): "black",
    }
    row = np.median(pixels[height * 6 // 10 : height * 9 // 10], axis=0)
    return [names[tuple(int(v > 96) for v in row[int((bar + 0.5) * width / 8)])] for bar in range(8)]


@pytest.fixture
def vivid() -> Iterator[Path]:
    """The first node of vivid, with its faults switched off."""
    nodes = [node for node in v4l2.cameras() if v4l2.query(node).driver == "vivid"]
    if not nodes:
        pytest.skip("this machine has no virtual V4L2 camera (vivid)")
    node = nodes[0].resolve()
    control(node, percentage_of_dropped_buffers=0)
    yield node
    if node.exists():
        control(node, percentage_of_dropped_buffers=0)


def control(node: Path, **controls: int) -> None:
    for name, value in controls.items():
        subprocess.run(["v4l2-ctl", "-d", str(node), "-c", f"{name}={value}"], check=True)


def platform_device(node: Path) -> tuple[Path, str]:
    """The driver's folder in /sys and the device's name there, which are needed to unbind it."""
    device = Path("/sys/class/video4linux", node.name, "device").resolve()
    return (device / "driver").resolve(), device.name


def test_red_is_red_through_v4l2(vivid: Path, capture_of: Start) -> None:
    capture = capture_of(source=f"v4l2:{vivid}")
    frame = capture.take(20)
    assert frame is not None
    assert frame.pixels.shape == (480, 640, 3)
    assert bar_names(frame.pixels) == BARS


def test_the_camera_itself_is_asked_for_the_size_and_the_frame_is_turned(vivid: Path, capture_of: Start) -> None:
    capture = capture_of(source=f"v4l2:{vivid}", size=(640, 360), flip="horizontal")
    frame = capture.take(20)
    assert frame is not None
    assert frame.pixels.shape == (360, 640, 3)
    assert bar_names(frame.pixels) == BARS[::-1]


def test_by_number_and_by_its_stable_name_it_is_the_same_camera(vivid: Path, capture_of: Start) -> None:
    number = vivid.name.removeprefix("video")
    names = [number] + ([str(name)] if (name := v4l2.stable_name(vivid)) else [])
    for uri in names:
        capture = capture_of(source=f"v4l2:{uri}")
        assert capture.take(20) is not None
        assert capture.stop(10)


def test_a_second_program_gets_a_sentence(vivid: Path, capture_of: Start, eventually: Wait) -> None:
    first, status = capture_of(source=f"v4l2:{vivid}"), Status()
    assert first.take(20) is not None
    capture_of(source=f"v4l2:{vivid}", on_status=status)
    eventually(lambda: status.snapshot().counters.get("camera_errors", 0) >= 1)
    assert str(vivid) in status.snapshot().gauges["camera_error"]
    assert first.take(20) is not None, "the first one is not disturbed"


def test_a_limit_is_kept_and_the_frames_are_new(vivid: Path, capture_of: Start) -> None:
    capture = capture_of(source=f"v4l2:{vivid}", fps=5)
    assert capture.take(20) is not None
    began, ages = time.monotonic(), []
    for _ in range(15):
        frame = capture.take(20)
        assert frame is not None
        ages.append(time.monotonic() - frame.captured_ns / 1e9)
    assert 15 / (time.monotonic() - began) < 6.5
    assert sorted(ages)[len(ages) // 2] < 0.5, "the frames waited in a queue"


def test_a_silent_camera_is_opened_again_and_never_taken_for_blocked(
    vivid: Path, capture_of: Start, status: Status, eventually: Wait
) -> None:
    capture = capture_of(source=f"v4l2:{vivid}", stall_after_s=4)
    assert capture.take(20) is not None
    control(vivid, percentage_of_dropped_buffers=100)
    eventually(lambda: status.snapshot().gauges["camera"] == "waiting")
    assert status.overdue() == {}
    control(vivid, percentage_of_dropped_buffers=0)
    eventually(lambda: status.snapshot().gauges["camera"] == "online", deadline_s=40)
    assert status.snapshot().counters["camera_reopens"] >= 1


def test_an_unplugged_camera_is_reported_and_found_again(
    vivid: Path, capture_of: Start, status: Status, eventually: Wait
) -> None:
    driver, device = platform_device(vivid)
    if not os.access(driver / "unbind", os.W_OK):
        pytest.skip("only root can unplug a virtual camera")
    capture = capture_of(source=f"v4l2:{vivid}", stall_after_s=4)
    assert capture.take(20) is not None
    (driver / "unbind").write_text(device)
    try:
        eventually(lambda: "is not there" in status.snapshot().gauges["camera_error"])
        assert status.overdue() == {}
    finally:
        (driver / "bind").write_text(device)
    eventually(lambda: status.snapshot().gauges["camera"] == "online", deadline_s=40)


# --- picamera2 on vimc

PICAMERA2 = """
import os, sys, time
from pathlib import Path
from edge.camera.capture import Capture
from edge.camera.geometry import FrameBuffers, Geometry
from edge.settings.schema import CameraSettings
from edge.status.snapshot import Status
from tests.camera.test_real_cameras import bar_names

def wait(condition):
    end = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < end, condition
        time.sleep(0.05)

status = Status()
capture = Capture(CameraSettings(source="picamera2", stall_after_s=5), status)
capture.start()
frame = capture.take(60)
print(frame.pixels.shape, *bar_names(frame.pixels), flush=True)
if sys.argv[1] == "stop":
    print(capture.stop(20), status.overdue())
    sys.exit(0)
driver = Path("/sys/bus/platform/drivers/vimc")
(driver / "unbind").write_text("vimc.0")
try:
    wait(lambda: "camera" in status.overdue())
    print(status.snapshot().gauges["camera_error"], capture.stop(1), flush=True)
finally:
    if os.fork() == 0:  # libcamera would abort in this process when the camera returns
        time.sleep(1)
        (driver / "bind").write_text("vimc.0")
        os._exit(0)
    os._exit(75)
"""


def run_picamera2(what: str) -> subprocess.CompletedProcess[str]:
    """In a separate process, because an unplugged picamera2 camera ends its process."""
    if not (DRIVERS / "vimc" / "vimc.0").exists() or importlib.util.find_spec("picamera2") is None:
        pytest.skip("this machine has no picamera2 with a virtual camera (vimc)")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *sys.path])}
    command = [sys.executable, "-c", PICAMERA2, what]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)


def test_red_is_red_through_picamera2_and_it_stops_cleanly() -> None:
    done = run_picamera2("stop")
    assert done.stdout.splitlines() == [f"(480, 640, 3) {' '.join(BARS)}", "True {}"], done.stderr
    assert done.returncode == 0


def test_an_unplugged_picamera2_is_given_up_at_once() -> None:
    done = run_picamera2("unplug")
    assert done.returncode == 75, done.stderr
    assert done.stdout.splitlines()[1] == "picamera2:0 was unplugged; check the ribbon cable. False"


# --- CSI: what follows NVIDIA's source and scaler is any GStreamer's


def test_red_is_red_through_gstreamer() -> None:
    if not csi.has_gstreamer() or not list(Path("/usr/lib").glob("*/gstreamer-1.0/libgstvideotestsrc.so")):
        pytest.skip("this machine has no OpenCV with GStreamer and its base plugins")

    class TestPattern(csi.CsiSource):
        def pipeline(self) -> str:
            return "videotestsrc is-live=true ! " + super().pipeline().split(" ! nvvidconv ! ")[1]

    settings = CameraSettings(source="csi://0")
    source = TestPattern(0, settings, Geometry(settings))
    source.open()
    assert source.grab()
    pixels = source.retrieve(FrameBuffers())
    source.close()
    assert pixels.shape == (360, 640, 3)  # the sensor's aspect, inside 640 × 480
    row = [pixels[100, int((bar + 0.5) * 640 / 7)] for bar in range(7)]
    assert [int(v) for v in row[5]] == [255, 0, 0]
    assert [int(v) for v in row[6]] == [0, 0, 255]
