"""Tests the rates of files and live cameras, and that frames that are not needed are not decoded."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from edge.camera.capture import Capture
from edge.status.snapshot import Status
from tests.camera.fakes import Clock, FakeCamera, grey

Start = Callable[..., Capture]
Wait = Callable[..., None]


def count(status: Status, name: str) -> int:
    return status.snapshot().counters.get(name, 0)


def test_pacing_follows_the_clock_and_frame_times_are_exact(capture_of: Start, eventually: Wait) -> None:
    clock = Clock(1000.0)
    camera = FakeCamera(live=False)
    capture = capture_of(camera, clock=clock, fps=2)
    camera.show(1, 2, 3)
    times = []
    for _ in range(3):
        frame = None
        while frame is None:
            frame = capture.take(0.01)
            clock.now += 0.0 if frame else 0.01
        times.append(frame.captured_ns / 1e9)
        assert clock.now >= times[-1] - 0.011, "a frame came before its time"
    assert times == pytest.approx([1000.0, 1000.5, 1001.0])


@pytest.mark.parametrize("fps", [0, 50])
def test_a_paced_file_can_be_hurried_while_it_waits(capture_of: Start, fps: float) -> None:
    camera = FakeCamera(live=False)
    capture = capture_of(camera, fps=0.01)
    camera.show(1, 2, None)
    assert capture.take(10) is not None
    assert capture.take(0.1) is None  # the next is due in 100 s
    capture.set_fps(fps)
    assert capture.take(10) is not None


def test_a_live_camera_is_limited_without_decoding_what_is_not_wanted(
    capture_of: Start, status: Status, eventually: Wait
) -> None:
    clock = Clock()
    camera = FakeCamera()
    capture = capture_of(camera, clock=clock, fps=10)
    for number in range(31):
        camera.show(number)
        eventually(camera.shots.empty)
        if number % 3 == 0:
            assert camera.retrieved.acquire(timeout=10)
        clock.now += 1 / 30
    eventually(lambda: count(status, "frames_captured") == 11)
    assert len(camera.lent) == 11
    assert count(status, "frames_dropped") == 10  # only what was decoded and not taken
    capture.set_fps(0)
    clock.now += 0.001
    camera.show(99)
    frame = None
    while frame is None or grey(frame.pixels) != 99:
        frame = capture.take(10)


def test_a_hot_board_slows_a_file_down_but_its_frames_keep_their_times(capture_of: Start) -> None:
    camera = FakeCamera(live=False, fps=10.0)
    capture = capture_of(camera)
    capture.set_board_limit(20.0)
    camera.show(*range(5), None)
    began = time.monotonic()
    frames = [frame for _ in range(5) if (frame := capture.take(10)) is not None]
    assert time.monotonic() - began >= 4 / 20 - 0.01
    assert [f.captured_ns - frames[0].captured_ns for f in frames] == pytest.approx([n * 1e8 for n in range(5)], abs=2)


def test_a_live_camera_keeps_the_lower_of_the_two_limits(capture_of: Start, status: Status, eventually: Wait) -> None:
    clock = Clock()
    camera = FakeCamera()
    capture = capture_of(camera, clock=clock, fps=10)
    capture.set_board_limit(2.0)
    for number in range(21):
        camera.show(number)
        eventually(camera.shots.empty)
        if number % 5 == 0:
            assert camera.retrieved.acquire(timeout=10)
        clock.now += 0.1
    eventually(lambda: count(status, "frames_captured") == 5)
