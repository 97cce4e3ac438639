"""Tests that a video's pictures get increasing moments, whatever its timestamps and its header claim."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from edge.camera.timestamps import PictureTimes


def moments(stamps: list[float], claimed_fps: float = 25.0) -> list[float]:
    times = PictureTimes()
    times.begin(claimed_fps)
    found = [times.next(stamp) for stamp in stamps]
    assert all(earlier < later for earlier, later in itertools.pairwise(found)), found
    return found


def regular(count: int, step_s: float = 0.1, first_s: float = 0.0) -> list[float]:
    return [first_s + n * step_s for n in range(count)]


@pytest.mark.parametrize("claimed", [0, 1000, 90_000, 1_200_000, math.nan, math.inf, -5, 10, 50])
def test_the_timestamps_count_whatever_rate_the_header_claims(claimed: float) -> None:
    assert moments(regular(50), claimed) == pytest.approx(regular(50))


@pytest.mark.parametrize("first_s", [3600.0, 95_443.0, -2.0, -7_686_143_364_045.0])
def test_timestamps_may_begin_anywhere(first_s: float) -> None:
    assert moments(regular(50, first_s=first_s)) == pytest.approx(regular(50), abs=0.002)


def test_a_variable_rate_is_kept() -> None:
    noise = random.Random(1)
    stamps = [0.0]
    for _ in range(200):
        stamps.append(stamps[-1] + noise.choice([0.01, 0.033, 0.5, 4.0, 30.0]))
    assert moments(stamps) == pytest.approx(stamps)


@pytest.mark.parametrize("missing", [0.0, math.nan])
@pytest.mark.parametrize(
    ("claimed", "step_s"), [(30, 1 / 30), (0.2, 5.0), (0, 0.04), (1000, 0.04), (90_000, 0.04), (math.nan, 0.04)]
)
def test_without_timestamps_the_claimed_rate_counts_if_it_is_likely(
    missing: float, claimed: float, step_s: float
) -> None:
    assert moments([missing] * 100, claimed) == pytest.approx([n * step_s for n in range(100)])


def test_the_last_pictures_may_lack_a_timestamp() -> None:
    assert moments([*regular(20), 0.0, 0.0], 1000) == pytest.approx(regular(22))  # as OpenCV 4.6 reads B-frames


@pytest.mark.parametrize("back_to_s", [0.0, 0.3, 3.0, 4.4])
def test_where_timestamps_jump_back_time_goes_on(back_to_s: float) -> None:
    stamps = regular(50) + regular(50, first_s=back_to_s)
    assert moments(stamps)[-1] == pytest.approx(9.9, abs=0.2)


def test_a_leap_of_years_is_a_wrong_timestamp() -> None:
    assert moments(regular(50) + regular(50, first_s=1.6e9))[-1] == pytest.approx(9.9)


def test_an_hour_without_pictures_is_an_hour() -> None:
    assert moments(regular(50) + regular(50, first_s=3600.0))[-1] == pytest.approx(3604.9)


def test_equal_timestamps_do_not_stretch_time() -> None:
    stamps = [stamp for stamp in regular(500) for _ in range(2)]
    assert moments(stamps)[-1] == pytest.approx(49.9, abs=0.01)


def test_timestamps_that_never_change_are_none() -> None:
    assert moments([7.0] * 100, 20)[-1] == pytest.approx(99 / 20, rel=0.06)


def test_timestamps_slightly_out_of_order_do_not_shift_time() -> None:
    """As of packets that a codec reorders."""
    stamps = [n * 0.04 for at in range(0, 400, 4) for n in (at, at + 3, at + 1, at + 2)]
    assert moments(stamps) == pytest.approx(regular(400, 0.04), abs=0.13)


def test_a_day_of_pictures_ends_on_time() -> None:
    times = PictureTimes()
    times.begin(0)
    for n in range(24 * 3600 * 2):
        moment = times.next(n / 2)
    assert moment == 24 * 3600 - 0.5


def test_a_video_that_begins_again_goes_on_by_its_usual_step() -> None:
    times = PictureTimes()
    found = []
    for _ in range(3):
        times.begin(1000)
        found += [times.next(stamp) for stamp in regular(10, first_s=5.0)]
    assert found == pytest.approx(regular(30))


def test_a_day_of_rounds_without_timestamps_does_not_drift() -> None:
    times = PictureTimes()
    for _ in range(10_000):
        times.begin(30)
        for _ in range(3):
            moment = times.next(0.0)
    assert moment == pytest.approx(29_999 / 30, abs=1e-6)
