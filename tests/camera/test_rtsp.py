"""Tests that a network camera's colours are right, and that a silent one neither blocks nor reveals its password."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edge.camera.capture import Capture
from edge.camera.geometry import FrameBuffers, Geometry
from edge.camera.rtsp import FROZEN_AFTER_S, RtspSource
from edge.errors import CameraError
from edge.frames import Pixels
from edge.settings.schema import CameraSettings
from edge.status.snapshot import Status
from tests.camera.fakes import Clock
from tests.camera.rtsp_server import RtspCamera

Start = Callable[..., Capture]
Wait = Callable[..., None]


def coloured(bgr: tuple[int, int, int], width: int = 320, height: int = 240) -> Pixels:
    return np.full((height, width, 3), bgr, np.uint8)


RED, BLUE = coloured((0, 0, 255)), coloured((255, 0, 0))


@pytest.fixture
def serve() -> Iterator[Callable[..., RtspCamera]]:
    cameras: list[RtspCamera] = []

    def start(*args: object, **options: object) -> RtspCamera:
        cameras.append(RtspCamera(*args, **options))  # type: ignore[arg-type]
        return cameras[-1]

    yield start
    for camera in cameras:
        camera.close()


def rgb(capture: Capture) -> list[int]:
    frame = capture.take(30)
    assert frame is not None
    return [int(v) for v in frame.pixels[frame.pixels.shape[0] // 2, frame.pixels.shape[1] // 2]]


def is_red(pixel: list[int]) -> bool:
    return pixel[0] > 220 and max(pixel[1:]) < 40


def test_red_is_red_and_frames_are_limited_and_turned(serve: Callable[..., RtspCamera], capture_of: Start) -> None:
    camera = serve(RED)
    capture = capture_of(source=f"rtsp://127.0.0.1:{camera.port}/live", size=(160, 160), rotate=90)
    frame = capture.take(30)
    assert frame is not None
    assert frame.pixels.shape == (160, 120, 3)
    assert is_red(rgb(capture))
    camera.picture = BLUE
    while is_red(pixel := rgb(capture)):
        pass
    while pixel[2] < 220:
        pixel = rgb(capture)
    assert max(pixel[:2]) < 40


def test_user_and_password_open_it_and_are_never_shown(
    serve: Callable[..., RtspCamera],
    capture_of: Start,
    status: Status,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    camera = serve(RED, "admin", "s3cret")
    capture = capture_of(source=f"rtsp://admin:s3cret@127.0.0.1:{camera.port}/live")
    assert is_red(rgb(capture))
    out, err = capfd.readouterr()
    assert "s3cret" not in caplog.text + out + err + str(status.snapshot().to_dict())


def test_a_wrong_password_is_a_sentence(
    serve: Callable[..., RtspCamera], capture_of: Start, status: Status, eventually: Wait
) -> None:
    camera = serve(RED, "admin", "s3cret")
    capture_of(source=f"rtsp://admin:wrong@127.0.0.1:{camera.port}/live")
    eventually(lambda: status.snapshot().counters.get("camera_errors", 0) >= 1)
    assert "user and password" in status.snapshot().gauges["camera_error"]
    assert "wrong" not in str(status.snapshot().to_dict())


@pytest.mark.parametrize("how", ["silent", "hung up"])
def test_a_camera_that_falls_silent_is_opened_again_and_never_taken_for_blocked(
    serve: Callable[..., RtspCamera], capture_of: Start, status: Status, eventually: Wait, how: str
) -> None:
    camera = serve(RED)
    capture = capture_of(source=f"rtsp://127.0.0.1:{camera.port}/live", stall_after_s=4, jitter=lambda: 0.0)
    assert is_red(rgb(capture))
    camera.silent = how == "silent"
    if how == "hung up":
        camera.hang_up()
    eventually(lambda: status.snapshot().gauges["camera"] == "waiting", deadline_s=30)
    assert status.overdue() == {}
    camera.silent = False
    camera.hang_up()
    eventually(lambda: status.snapshot().gauges["camera"] == "online", deadline_s=40)
    assert camera.played >= 2


def test_a_change_of_resolution_mid_stream_is_followed(
    serve: Callable[..., RtspCamera], capture_of: Start, status: Status, eventually: Wait
) -> None:
    """A newer OpenCV follows at once; Debian's 4.10 freezes, and the frozen stream is reopened."""
    camera = serve(RED)
    capture = capture_of(source=f"rtsp://127.0.0.1:{camera.port}/live", size=(640, 480))
    assert is_red(rgb(capture))
    camera.picture = coloured((255, 0, 0), 480, 320)
    eventually(lambda: status.snapshot().gauges["camera_size"] == [480, 320], deadline_s=90)
    while rgb(capture)[2] < 220:
        pass


def test_a_frozen_stream_is_opened_again_and_a_still_one_ever_more_rarely(serve: Callable[..., RtspCamera]) -> None:
    camera, clock, buffers = serve(RED), Clock(), FrameBuffers()
    settings = CameraSettings(source=f"rtsp://127.0.0.1:{camera.port}/live")
    source = RtspSource(settings, Geometry(settings), clock)

    def watch() -> None:
        for _ in range(200):
            assert source.grab()
            source.retrieve(buffers)
            clock.now += 5.0

    def seconds_until_frozen() -> float:
        source.open()
        began = clock.now
        with pytest.raises(CameraError, match="has shown the same picture"):
            watch()
        return clock.now - began

    assert seconds_until_frozen() == pytest.approx(FROZEN_AFTER_S, abs=6)
    assert seconds_until_frozen() == pytest.approx(2 * FROZEN_AFTER_S, abs=6)
    camera.picture = BLUE
    assert seconds_until_frozen() == pytest.approx(FROZEN_AFTER_S, abs=11)
    source.close()


def test_a_stream_that_lives_is_left_alone(serve: Callable[..., RtspCamera]) -> None:
    noise = np.random.default_rng(1)
    camera, clock, buffers = serve(RED), Clock(), FrameBuffers()
    settings = CameraSettings(source=f"rtsp://127.0.0.1:{camera.port}/live")
    source = RtspSource(settings, Geometry(settings), clock)
    source.open()
    camera.picture = BLUE
    while source.grab() and is_red(source.retrieve(buffers)[0, 0].tolist()):
        pass  # what FFmpeg has read ahead
    for _ in range(40):
        camera.picture = noise.integers(0, 255, RED.shape, np.uint8)
        assert source.grab()
        source.retrieve(buffers)
        clock.now += 2.0  # 80 s in total; sometimes a picture is shown twice
    source.close()


@pytest.mark.parametrize(
    ("claimed_fps", "stamp"),
    [("0", lambda frame: 0), ("1000", lambda frame: -frame * 90_000), ("90000", lambda frame: frame % 5 * 900_000)],
    ids=["equal timestamps", "backwards", "in circles"],
)
def test_a_live_cameras_time_is_the_clock_whatever_it_claims(
    claimed_fps: str, stamp: Callable[[int], int], serve: Callable[..., RtspCamera], capture_of: Start
) -> None:
    camera = serve(RED, claimed_fps=claimed_fps)
    camera.stamp = stamp
    capture = capture_of(source=f"rtsp://127.0.0.1:{camera.port}/live")
    assert capture.take(30)
    began, times = time.monotonic_ns(), []
    while len(times) < 5:
        if (frame := capture.take(30)) is not None:
            times.append(frame.captured_ns)
    assert times == sorted(set(times))
    assert began - 1e9 < times[0] < times[-1] <= time.monotonic_ns()
