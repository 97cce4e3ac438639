"""The frame rate of the status is that of the last seconds, for fast and for very slow cameras."""

from edge.status.frame_rate import WINDOW_S, FrameRate


def test_the_rate_is_that_of_the_last_seconds() -> None:
    now = 100.0
    rate = FrameRate(lambda: now)
    assert rate.measure(0) == 0.0
    now += 1
    assert rate.measure(30) == 30.0
    for frames in range(60, 60 + 30 * 30, 30):
        now += 1
        assert rate.measure(frames) == 30.0
    for _ in range(int(WINDOW_S)):
        now += 1
        stopped = rate.measure(frames)
    assert stopped == 0.0


def test_one_frame_in_five_seconds_never_reads_as_none() -> None:
    now = 0.0
    rate = FrameRate(lambda: now)
    seen = []
    for second in range(60):
        now = float(second)
        seen.append(round(rate.measure(second // 5), 1))
    assert min(seen[10:]) > 0
