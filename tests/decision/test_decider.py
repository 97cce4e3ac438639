"""Tests the decision: smoothing over time, hold time, `unknown` below the confidence, and heartbeats."""

import numpy as np
import pytest

from edge.decision.decider import Decider, Decision
from edge.events import UNKNOWN, Probabilities
from edge.settings.schema import DecisionSettings

LABELS = ("cat", "cup", "alp")


def sure_of(index: int, confidence: float = 0.9) -> Probabilities:
    probabilities = np.full(3, (1 - confidence) / 2, np.float32)
    probabilities[index] = confidence
    return probabilities


def decider(**settings: float) -> Decider:
    return Decider(DecisionSettings.model_validate({"smoothing_s": 0, "hold_s": 0} | settings), LABELS)


def said(decision: Decision | None) -> tuple[str, str] | None:
    return None if decision is None else (decision.reason, decision.label)


def test_the_first_frame_is_an_event_at_once_and_the_second_like_it_is_not() -> None:
    box = decider(hold_s=5)
    first = box.decide(sure_of(0), 100.0)
    assert said(first) == ("change", "cat")
    assert first is not None
    assert [(top.label, top.index) for top in first.top] == [("cat", 0), ("cup", 1), ("alp", 2)]
    assert first.top[0].confidence == 90.0
    assert box.decide(sure_of(0), 100.1) is None


def test_a_flicker_shorter_than_the_hold_is_never_said() -> None:
    box = decider(hold_s=0.5)
    box.decide(sure_of(0), 0.0)
    assert box.decide(sure_of(1), 1.0) is None
    assert box.decide(sure_of(1), 1.4) is None
    assert box.decide(sure_of(0), 1.45) is None  # back: the hold starts again
    assert box.decide(sure_of(1), 1.6) is None
    assert box.decide(sure_of(1), 2.05) is None
    assert said(box.decide(sure_of(1), 2.1)) == ("change", "cup")


def test_below_the_minimum_it_says_unknown_and_hovering_around_it_does_not_flicker() -> None:
    box = decider(min_confidence=50)
    assert said(box.decide(sure_of(0, 0.6), 0.0)) == ("change", "cat")
    assert box.decide(sure_of(0, 0.45), 1.0) is None  # above 80 % of the minimum: stays
    assert said(box.decide(sure_of(0, 0.39), 2.0)) == ("change", UNKNOWN)
    assert box.decide(sure_of(0, 0.45), 3.0) is None  # to return, the whole minimum is needed
    assert said(box.decide(sure_of(0, 0.5), 4.0)) == ("change", "cat")


@pytest.mark.parametrize("fps", [2, 30, 240])
def test_smoothing_takes_the_same_time_at_every_frame_rate(fps: int) -> None:
    box = decider(smoothing_s=1.0, min_confidence=0)
    box.decide(sure_of(0, 1.0), 0.0)
    changed_at = next(i / fps for i in range(1, 10 * fps) if box.decide(sure_of(1, 1.0), i / fps) is not None)
    # Half of the weight has moved after ln 2 seconds, with a tolerance of one frame.
    assert changed_at == pytest.approx(np.log(2), abs=1 / fps)


def test_after_a_long_gap_the_past_does_not_count() -> None:
    box = decider(smoothing_s=1.0)
    box.decide(sure_of(0), 0.0)
    decision = box.decide(sure_of(1), 60.0)
    assert said(decision) == ("change", "cup")
    assert decision is not None
    assert decision.top[0].confidence == 90.0


def test_a_heartbeat_repeats_the_label_that_was_said() -> None:
    box = decider(heartbeat_s=30, hold_s=60)
    box.decide(sure_of(0), 0.0)
    assert box.decide(sure_of(1), 29.9) is None
    assert said(box.decide(sure_of(1), 30.0)) == ("heartbeat", "cat")
    assert box.decide(sure_of(0), 59.9) is None
    assert said(box.decide(sure_of(0), 60.0)) == ("heartbeat", "cat")


def test_every_frame_says_each_and_still_marks_changes_and_heartbeats() -> None:
    box = decider(every_frame=True, heartbeat_s=10)
    reasons = [said(box.decide(sure_of(index), float(t))) for t, index in enumerate([0, 0, 1, 1, *[1] * 9])]
    assert reasons[:4] == [("change", "cat"), ("frame", "cat"), ("change", "cup"), ("frame", "cup")]
    assert reasons[12] == ("heartbeat", "cup")


def test_settings_change_while_it_runs() -> None:
    box = decider(hold_s=60)
    box.decide(sure_of(0), 0.0)
    assert box.decide(sure_of(1), 1.0) is None
    box.settings = DecisionSettings(smoothing_s=0, hold_s=0)
    assert said(box.decide(sure_of(1), 1.1)) == ("change", "cup")


def test_the_input_is_not_written_to() -> None:
    box = decider(smoothing_s=1.0)
    first, second = sure_of(0), sure_of(1)
    box.decide(first, 0.0)
    box.decide(second, 1.0)
    np.testing.assert_array_equal(first, sure_of(0))
    np.testing.assert_array_equal(second, sure_of(1))
