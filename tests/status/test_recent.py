"""Tests that the newest frame is copied only while it is requested, and that events are numbered without gaps."""

import threading

import numpy as np

from edge.events import Event, Label
from edge.frames import Frame
from edge.status.recent import INTEREST_S, KEPT_EVENTS, Recent

WAIT_S = 20.0


def frame(value: int) -> Frame:
    return Frame(np.full((2, 2, 3), value, np.uint8), captured_ns=0, sequence=value)


def event(number: int, reason: str = "change") -> Event:
    top = (Label("alp", 92.3, 970),)
    return Event(f"e-{number}", "porch", reason, "2026-11-22T10:15:30.123Z", True, "b", 1.0, "alp", top, "m", {})  # type: ignore[arg-type]


def test_nothing_is_copied_without_a_request() -> None:
    recent = Recent()
    recent.offer(frame(1))()
    assert recent.frame(max_age_s=100, timeout_s=0) is None


def test_a_request_gets_a_copy_of_the_next_frame_and_others_share_it_while_it_is_fresh() -> None:
    now = [0.0]
    recent = Recent(clock=lambda: now[0])
    camera_buffer = frame(1)
    done = threading.Event()

    def camera() -> None:
        while not done.wait(0.001):
            recent.offer(camera_buffer)()

    thread = threading.Thread(target=camera)
    thread.start()
    seen = recent.frame(max_age_s=1, timeout_s=WAIT_S)
    done.set()
    thread.join()
    camera_buffer.pixels[:] = 9
    assert seen is not None
    assert seen.pixels.max() == 1
    assert recent.frame(max_age_s=1, timeout_s=0) is seen
    now[0] = INTEREST_S - 1
    assert recent.frame(max_age_s=1, timeout_s=0) is seen  # the newest frame of a slow camera
    now[0] = INTEREST_S + 1
    assert recent.frame(max_age_s=1, timeout_s=0) is None


def test_a_listener_goes_on_from_where_it_was() -> None:
    recent = Recent()
    assert recent.latest() is None
    for number in range(5):
        recent.add(event(number))
    assert [numbered.event.id for numbered in recent.after(3)] == ["e-3", "e-4"]
    assert recent.after(5) == []
    assert recent.after(99) == []
    assert recent.latest() == event(4)


def test_frames_that_became_events_do_not_push_states_out() -> None:
    recent = Recent()
    recent.add(event(0))
    for number in range(1, KEPT_EVENTS + 2):
        recent.add(event(number, "frame"))
    assert [state.id for state in recent.states()] == ["e-0"]
    assert len(recent.after(0)) == KEPT_EVENTS
