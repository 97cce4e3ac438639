"""An event survives its JSON, an id has no gap, and whatever stands in a log is read or refused, never a crash."""

import contextlib
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import EventError
from edge.events import Event, EventIds, Label, isoformat_utc, top_k

EVENT = Event(
    id="porch-5f1c2e7a-0812400-000042",
    device="porch",
    reason="change",
    time="2026-11-22T10:15:30.123Z",
    time_synced=True,
    boot="5f1c2e7a",
    uptime_s=860.4,
    label="alp",
    top=(Label("alp", 92.3, 970), Label("ski", 4.1, 795), Label("Äpfel", 1.1, 979)),
    model="resnet18-int8-3fa9c1",
    latency_ms={"capture": 3.1, "preprocess": 1.2, "inference": 41.8},
)


def test_an_event_is_one_line_in_the_order_of_the_contract() -> None:
    text = EVENT.to_json()
    assert "\n" not in text
    assert list(json.loads(text)) == [
        "schema", "id", "device", "reason", "time", "time_synced", "boot", "uptime_s",
        "label", "top", "model", "latency_ms",
    ]  # fmt: skip
    assert "Äpfel" in text
    assert Event.from_json(text) == EVENT
    assert Event.from_json(text.encode()) == EVENT


def test_a_replay_says_so_and_corrects_only_a_time_that_was_not_synced() -> None:
    replayed = json.loads(EVENT.replayed_json(offset_s=1.7e9))
    assert replayed == EVENT.to_dict() | {"replayed": True, "top": replayed["top"]}
    unsynced = dataclasses.replace(EVENT, time="1970-01-01T00:14:20.400Z", time_synced=False)
    assert "time_corrected" not in json.loads(unsynced.replayed_json(offset_s=None))
    corrected = json.loads(unsynced.replayed_json(offset_s=1_700_000_000.0))
    assert corrected["time_corrected"] is True
    assert corrected["time"] == isoformat_utc(1_700_000_860.4) == "2023-11-14T22:27:40.400Z"


def test_ids_are_gapless_and_start_at_the_runs_uptime() -> None:
    ids = EventIds("porch", "5f1c2e7a", 812_400)
    assert [ids.next() for _ in range(3)] == [f"porch-5f1c2e7a-0812400-{n:06d}" for n in range(3)]


def test_top_k_is_in_percent_with_one_decimal_and_ties_go_by_index() -> None:
    probabilities = np.array([0.1, 0.35449, 0.1, 0.35449], np.float32)
    assert top_k(probabilities, "abcd") == (Label("b", 35.4, 1), Label("d", 35.4, 3), Label("a", 10.0, 0))


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2}, {"id": 7}, {"reason": "because"}, {"time_synced": "yes"}, {"uptime_s": True}, {"top": {}},
        {"top": [{"label": "alp"}]}, {"latency_ms": {"inference": "fast"}}, {"uptime_s": 10**400}, {"label": "\ud800"},
        {"top": [{"label": "a", "confidence": 1, "index": True}]},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_field_is_refused_with_a_sentence(change: dict[str, object]) -> None:
    with pytest.raises(EventError, match=r"^An event.*\.$"):
        Event.from_json(json.dumps(EVENT.to_dict() | change))


def test_a_missing_field_is_refused() -> None:
    document = EVENT.to_dict()
    del document["boot"]
    with pytest.raises(EventError, match="'boot'"):
        Event.from_json(json.dumps(document))


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None)  # a busy machine is no failure
@given(st.binary(max_size=300) | st.text(max_size=300))
def test_any_text_is_an_event_or_an_event_error(text: str | bytes) -> None:
    with pytest.raises(EventError):
        Event.from_json(text)


@settings(deadline=None)  # a busy machine is no failure
@given(st.dictionaries(st.sampled_from(sorted(EVENT.to_dict())), ANY_JSON, min_size=1))
def test_any_change_of_an_event_is_an_event_or_an_event_error(change: dict[str, object]) -> None:
    with contextlib.suppress(EventError):
        event = Event.from_json(json.dumps(EVENT.to_dict() | change))
        event.replayed_json(None).encode()


def test_a_very_long_or_deep_text_is_refused() -> None:
    for text in ("[" * 60_000, "1" * 70_000):
        with pytest.raises(EventError):
            Event.from_json(text)
