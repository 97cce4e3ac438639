"""Tests that a frame rate is kept on average, and that a file's frames have exact times."""

from __future__ import annotations

import random

import pytest

from edge.camera.pace import RateLimiter, Timeline


def wanted(camera_fps: float, limit: float, seconds: float, jitter: float = 0.0) -> int:
    noise = random.Random(1)
    limiter = RateLimiter()
    times = (50.0 + n / camera_fps + noise.uniform(-jitter, jitter) for n in range(int(camera_fps * seconds)))
    return sum(limiter.admits(now, limit) for now in times)


@pytest.mark.parametrize(("camera", "limit"), [(30, 10), (30, 15), (30, 7), (60, 24), (30, 1), (5, 0.1), (30, 29)])
@pytest.mark.parametrize("jitter", [0.0, 0.004])
def test_the_limit_is_kept_on_average_although_pictures_jitter(camera: float, limit: float, jitter: float) -> None:
    assert wanted(camera, limit, 100, jitter) == pytest.approx(limit * 100, rel=0.02, abs=1)


def test_no_limit_and_one_above_the_cameras_rate_want_all() -> None:
    assert wanted(30, 0, 10) == 300
    assert wanted(30, 60, 10) == 300


def test_after_a_pause_nothing_is_made_up_for() -> None:
    limiter = RateLimiter()
    assert limiter.admits(0.0, 1.0)
    assert limiter.admits(100.0, 1.0)
    assert not limiter.admits(100.1, 1.0)


def test_a_raised_limit_applies_at_once() -> None:
    limiter = RateLimiter()
    assert limiter.admits(0.0, 0.01)  # the next would be due in 100 s
    assert not limiter.admits(1.0, 0.01)
    assert limiter.admits(1.1, 10.0)


def test_times_are_index_over_fps_without_drift() -> None:
    timeline = Timeline(7.0)
    times = [timeline.next(0.0, 30.0) for _ in range(30 * 3600 + 1)]
    assert times[0] == 7.0
    assert times[-1] == pytest.approx(7.0 + 3600, abs=1e-9)


def test_times_go_on_from_the_last_frame_when_the_rate_changes() -> None:
    timeline = Timeline(0.0)
    assert [timeline.next(0.0, fps) for fps in (10, 10, 2, 2, 10)] == pytest.approx([0.0, 0.1, 0.6, 1.1, 1.2])


def test_a_files_own_moments_count_unless_a_rate_is_set() -> None:
    timeline = Timeline(100.0)
    assert timeline.next(5.0, 0) == 100.0
    assert timeline.next(5.3, 0) == pytest.approx(100.3)
    assert timeline.next(6.0, 2) == pytest.approx(100.8)
    assert timeline.next(6.1, 2) == pytest.approx(101.3)
    assert timeline.next(6.5, 0) == pytest.approx(101.7)
    assert timeline.next(7.5, 0) == pytest.approx(102.7)
