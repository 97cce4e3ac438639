"""Tests that the capture thread keeps the newest frame, reopens a failing camera, and reports a blocked one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.camera.capture import Capture
from edge.camera.source import LostCameraError, UnreadablePictureError
from edge.camera.source_health import STEADY_S
from edge.errors import CameraError
from edge.settings.schema import CameraSettings
from edge.status.snapshot import Status
from tests.camera.fakes import Clock, FakeCamera, grey

Start = Callable[..., Capture]
Wait = Callable[..., None]


def count(status: Status, name: str) -> int:
    return status.snapshot().counters.get(name, 0)


def test_only_the_newest_frame_waits_and_drops_are_counted(capture_of: Start, status: Status, eventually: Wait) -> None:
    camera = FakeCamera()
    capture = capture_of(camera)
    camera.show(*range(10))
    eventually(lambda: count(status, "frames_captured") == 10)
    frame = capture.take(1)
    assert frame is not None
    assert (grey(frame.pixels), frame.sequence) == (9, 9)
    assert count(status, "frames_dropped") == 9
    assert capture.take(0.01) is None  # each frame is taken once


def test_a_frame_stays_untouched_until_the_next_is_taken(capture_of: Start, status: Status, eventually: Wait) -> None:
    camera = FakeCamera(size=(64, 48))
    capture = capture_of(camera)
    camera.show(1)
    first = capture.take(10)
    assert first is not None
    camera.show(*range(2, 60))
    eventually(lambda: count(status, "frames_captured") == 59)
    assert grey(first.pixels) == 1  # 58 frames later
    second = capture.take(1)
    assert second is not None
    assert grey(second.pixels) == 59
    assert len(set(camera.lent)) <= 3, "a camera that runs allocates no more"


def test_taking_while_the_camera_runs_never_sees_half_a_frame(capture_of: Start) -> None:
    camera = FakeCamera(size=(160, 120))
    capture = capture_of(camera)
    feeder = threading.Thread(target=lambda: camera.show(*(n % 256 for n in range(3000))))
    feeder.start()
    last = -1
    while last < 2999:
        if (frame := capture.take(10)) is not None:
            assert frame.sequence > last
            last = frame.sequence
            assert grey(frame.pixels) == last % 256
    feeder.join()


def test_take_returns_none_in_time_without_a_camera(capture_of: Start) -> None:
    capture = capture_of(FakeCamera())
    began = time.monotonic()
    assert capture.take(0.05) is None
    assert time.monotonic() - began < 10
    assert not capture.ended


def test_each_change_of_the_cameras_state_is_reported_once(capture_of: Start, status: Status, eventually: Wait) -> None:
    reported: list[bool] = []
    camera = FakeCamera()
    camera.open_errors = [CameraError("Not there; plug it in.")] * 2
    capture_of(camera, on_camera=reported.append, jitter=lambda: 0.0)
    eventually(lambda: camera.opened == 3)
    gauges = status.snapshot().gauges
    assert (gauges["camera"], gauges["camera_error"]) == ("waiting", "Not there; plug it in.")
    camera.show(1, 2, 3)
    eventually(lambda: count(status, "frames_captured") == 3)
    gauges = status.snapshot().gauges
    assert (gauges["camera"], gauges["camera_error"], gauges["camera_source"]) == ("online", "", "fake:0")
    camera.show(CameraError("Unplugged."), 4)
    eventually(lambda: count(status, "frames_captured") == 4)
    assert reported == [False, True, False, True]
    assert count(status, "camera_errors") == 3
    assert count(status, "camera_reopens") == 3
    assert camera.opened == 4
    assert camera.closed == 3


def test_a_repeated_fault_is_one_line_and_its_end_another(
    capture_of: Start, eventually: Wait, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    status = Status(clock)
    camera = FakeCamera()
    camera.open_errors = [CameraError("The camera is away.")] * 6

    def jitter() -> float:  # called once for each failure; advances the clock, so that no test waits
        clock.now += 20.0
        return 0.0

    capture = capture_of(camera, on_status=status, clock=clock, jitter=jitter)
    eventually(lambda: camera.opened >= 1)

    def opened_again() -> bool:
        clock.now += 1.0
        return camera.opened == 7

    eventually(opened_again)
    camera.show(1)
    assert capture.take(20) is not None
    clock.now += STEADY_S + 1
    camera.show(2)
    eventually(lambda: "pictures again" in caplog.text)
    lines = [r for r in caplog.records if r.name == "edge.camera"]
    assert len({r.levelno for r in lines}) == 1
    assert lines[0].message == "The camera is away."
    assert "failed 6 times" in lines[-1].message
    assert len(lines) <= 2 + 6 * 20 // 60 + 6, "more than one line a minute"


def test_black_frames_are_frames(capture_of: Start, status: Status, eventually: Wait) -> None:
    camera = FakeCamera()
    capture = capture_of(camera)
    camera.show(0)
    frame = capture.take(10)
    assert frame is not None
    assert not frame.pixels.any()
    assert count(status, "camera_errors") == 0


def test_a_torn_picture_is_counted_and_the_next_is_shown(capture_of: Start, status: Status) -> None:
    camera = FakeCamera()
    capture = capture_of(camera)
    camera.show(UnreadablePictureError("Torn."), UnreadablePictureError("Torn."), 7)
    frame = capture.take(10)
    assert frame is not None
    assert grey(frame.pixels) == 7
    assert count(status, "frames_unreadable") == 2
    assert camera.opened == 1


def test_a_video_of_broken_pictures_is_one_line(
    capture_of: Start, status: Status, eventually: Wait, caplog: pytest.LogCaptureFixture
) -> None:
    camera = FakeCamera(live=False)
    capture = capture_of(camera)
    camera.show(*[UnreadablePictureError("A picture of the video cannot be decoded.")] * 50, 7, None)
    assert capture.take(10) is not None
    eventually(lambda: capture.ended)
    assert count(status, "frames_unreadable") == 50
    assert caplog.text.count("cannot be decoded") == 1


def test_a_camera_of_nothing_but_torn_pictures_is_opened_again(capture_of: Start, eventually: Wait) -> None:
    clock = Clock()
    status = Status(clock)
    camera = FakeCamera()
    capture_of(camera, on_status=status, clock=clock, stall_after_s=2)
    camera.show(UnreadablePictureError("Torn."))
    eventually(lambda: count(status, "frames_unreadable") == 1)
    clock.now += 2.5
    camera.show(UnreadablePictureError("Torn."))
    eventually(lambda: count(status, "camera_errors") == 1)
    assert "only broken pictures" in status.snapshot().gauges["camera_error"]


def test_a_change_of_resolution_mid_stream_is_followed(capture_of: Start, status: Status) -> None:
    camera = FakeCamera(size=(8, 6))
    capture = capture_of(camera)
    for level, size in ((1, (8, 6)), (2, (20, 10)), (3, (8, 6))):
        camera.size = size
        camera.show(level)
        frame = capture.take(10)
        assert frame is not None
        assert frame.pixels.shape == (size[1], size[0], 3)
        assert grey(frame.pixels) == level
        assert status.snapshot().gauges["camera_size"] == list(size)


@pytest.mark.parametrize("where", ["grab", "close", "open"])
def test_a_call_that_never_returns_stops_the_beats_and_nothing_else(
    capture_of: Start, eventually: Wait, where: str
) -> None:
    clock = Clock()
    status = Status(clock)
    camera = FakeCamera()
    if where == "open":
        camera.block_in = where
    capture = capture_of(camera, on_status=status, clock=clock, stall_after_s=5)
    if where != "open":
        camera.show(1)
        assert capture.take(10) is not None
        camera.block_in = where
        camera.show(2 if where == "grab" else CameraError("Unplugged."))
    eventually(camera.blocked.is_set)
    assert status.overdue() == {}  # not yet
    clock.now += 25
    assert status.overdue() == {"camera": 25.0}
    began = time.monotonic()
    assert not capture.stop(0.1), "the thread is blocked, and stop says so"
    assert time.monotonic() - began < 10


def test_waiting_for_a_camera_is_a_beat(capture_of: Start, eventually: Wait) -> None:
    """However long the camera is missing, nothing is overdue: a restart would not bring it back."""
    clock = Clock()
    status = Status(clock)
    camera = FakeCamera()
    camera.open_errors = [CameraError("Away.")] * 1000
    capture_of(camera, on_status=status, clock=clock)
    for _ in range(20):
        before = camera.opened
        eventually(lambda: count(status, "camera_errors") > 0)
        clock.now += 4.0  # below the limit each time, far above it in total
        eventually(lambda before=before: camera.opened > before or not status.overdue())
        assert status.overdue() == {}


def test_a_file_from_which_no_frame_is_taken_is_no_hang(capture_of: Start, eventually: Wait) -> None:
    clock = Clock()
    status = Status(clock)
    camera = FakeCamera(live=False)
    capture_of(camera, on_status=status, clock=clock)
    camera.show(1, 2, 3)
    eventually(lambda: count(status, "frames_captured") == 1)
    for _ in range(3):
        clock.now += 4.0
        time.sleep(0.6)  # two beats of a wait; a beat cannot be awaited
        assert status.overdue() == {}
    assert count(status, "frames_captured") == 1


def test_a_file_ends_once_its_last_frame_was_taken(capture_of: Start, status: Status, eventually: Wait) -> None:
    reported: list[bool] = []
    camera = FakeCamera(live=False)
    capture = capture_of(camera, on_camera=reported.append)
    camera.show(1, 2, None)
    assert capture.take(10) is not None
    assert not capture.ended
    eventually(lambda: count(status, "frames_captured") == 2)
    assert not capture.ended  # one waits
    assert capture.take(10) is not None
    eventually(lambda: capture.ended)
    assert capture.take(10) is None
    eventually(lambda: status.snapshot().gauges["camera"] == "ended")
    assert reported == [True, False]
    assert status.overdue() == {}


def test_a_missing_file_is_waited_for(tmp_path: Path, capture_of: Start, status: Status, eventually: Wait) -> None:
    path = tmp_path / "later.png"
    capture = capture_of(source=f"file:{path}", jitter=lambda: 0.0)
    eventually(lambda: count(status, "camera_errors") >= 1)
    assert "There is no file" in status.snapshot().gauges["camera_error"]
    assert not capture.ended
    cv2.imwrite(str(path), np.full((20, 20, 3), 5, np.uint8))
    frame = capture.take(20)
    assert frame is not None
    assert grey(frame.pixels) == 5


def test_stop_before_start_and_twice_is_harmless(status: Status) -> None:
    capture = Capture(CameraSettings(), status, make=FakeCamera())
    assert capture.stop(1)
    assert capture.stop(1)


def test_stop_closes_the_camera_and_ends_the_watch(capture_of: Start, status: Status) -> None:
    camera = FakeCamera()
    capture = capture_of(camera)
    camera.show(1)
    assert capture.take(10) is not None
    camera.unblock.set()
    assert capture.stop(10)
    assert camera.closed >= 1
    assert status.overdue() == {}


def test_a_lost_camera_is_overdue_at_once_and_never_touched_again(
    capture_of: Start, status: Status, eventually: Wait
) -> None:
    """Only a new process helps, so the daemon should flush and exit as soon as possible."""
    reported: list[bool] = []
    camera = FakeCamera()
    capture = capture_of(camera, on_camera=reported.append)
    camera.show(1, LostCameraError("It was unplugged; plug it in."))
    eventually(lambda: "camera" in status.overdue())
    assert reported == [True, False]
    assert status.snapshot().gauges["camera_error"] == "It was unplugged; plug it in."
    assert camera.closed == 0
    assert not capture.stop(5), "the process has to end without its libraries' clean-up"
