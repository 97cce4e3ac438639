"""Tests that an event survives its JSON, that ids have no gaps, and that bad log entries never cause a crash."""

import contextlib
import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import EventError
from edge.events import Event, Label, event_ids, isoformat_utc, top_k

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


# Version 1 of the schema, byte for byte, because logs and subscribers rely on it.
HEAD = '{"schema":1,"id":"porch-5f1c2e7a-0812400-000042","device":"porch",'
WHEN = '"time":"2026-11-22T10:15:30.123Z","time_synced":true,"boot":"5f1c2e7a",'
TOP = (
    '"top":[{"label":"alp","confidence":92.3,"index":970},{"label":"ski","confidence":4.1,"index":795},'
    '{"label":"Äpfel","confidence":1.1,"index":979}],'
)
TAIL = '"model":"resnet18-int8-3fa9c1","latency_ms":{"capture":3.1,"preprocess":1.2,"inference":41.8}'


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, HEAD + '"reason":"change",' + WHEN + '"uptime_s":860.4,"label":"alp",' + TOP + TAIL),
        (
            {"reason": "heartbeat", "label": "unknown", "top": (), "latency_ms": {}},
            HEAD + '"reason":"heartbeat",' + WHEN + '"uptime_s":860.4,"label":"unknown","top":[],'
            '"model":"resnet18-int8-3fa9c1","latency_ms":{}',
        ),
        (
            {"reason": "frame", "time_synced": False, "uptime_s": 0.0, "top": (Label("a", 100.0, 0),)},
            HEAD + '"reason":"frame",' + WHEN.replace("true", "false") + '"uptime_s":0.0,"label":"alp",'
            '"top":[{"label":"a","confidence":100.0,"index":0}],' + TAIL,
        ),
        (
            {"reason": "heartbeat", "label": 'say "hi"\\\n\t\x00\x7f/\u2028', "model": "猫🐈", "device": "дом"},
            HEAD.replace("porch\",", "дом\",") + '"reason":"heartbeat",' + WHEN + '"uptime_s":860.4,'
            '"label":"say \\"hi\\"\\\\\\n\\t\\u0000\x7f/\u2028",' + TOP + TAIL.replace("resnet18-int8-3fa9c1", "猫🐈"),
        ),
        (
            {"uptime_s": 1e22, "latency_ms": {"z": 0.0, "a": 1e-07, "m": 1e16, "n": 123456789.1, "é": 5e-324}},
            HEAD + '"reason":"change",' + WHEN + '"uptime_s":1e+22,"label":"alp",' + TOP
            + '"model":"resnet18-int8-3fa9c1","latency_ms":{"z":0.0,"a":1e-07,"m":1e+16,"n":123456789.1,"é":5e-324}',
        ),
        (
            {"uptime_s": -0.0, "top": (Label("whole", 7, 10**20),), "latency_ms": {"inference": 42}},
            HEAD + '"reason":"change",' + WHEN + '"uptime_s":-0.0,"label":"alp",'
            '"top":[{"label":"whole","confidence":7,"index":100000000000000000000}],'
            '"model":"resnet18-int8-3fa9c1","latency_ms":{"inference":42}',
        ),
    ],
    ids=["usual", "unknown", "frame", "characters", "exponents", "integers"],
)  # fmt: skip
def test_the_json_is_the_same_to_the_byte_as_in_every_version_so_far(change: dict[str, Any], text: str) -> None:
    event = dataclasses.replace(EVENT, **change)
    assert event.to_json() == text + "}"
    assert event.replayed_json(None) == text + ',"replayed":true}'
    assert Event.from_json(event.to_json()) == event
    if not event.time_synced:
        corrected = text.replace("2026-11-22T10:15:30.123Z", "2023-11-14T22:13:20.000Z")
        assert event.replayed_json(1.7e9) == corrected + ',"replayed":true,"time_corrected":true}'


def test_a_replay_says_so_and_corrects_only_a_time_that_was_not_synced() -> None:
    replayed = json.loads(EVENT.replayed_json(offset_s=1.7e9))
    assert replayed == EVENT.to_dict() | {"replayed": True, "top": replayed["top"]}
    unsynced = dataclasses.replace(EVENT, time="1970-01-01T00:14:20.400Z", time_synced=False)
    assert "time_corrected" not in json.loads(unsynced.replayed_json(offset_s=None))
    corrected = json.loads(unsynced.replayed_json(offset_s=1_700_000_000.0))
    assert corrected["time_corrected"] is True
    assert corrected["time"] == isoformat_utc(1_700_000_860.4) == "2023-11-14T22:27:40.400Z"


def test_ids_are_gapless_and_start_at_the_runs_uptime() -> None:
    ids = event_ids("porch", "5f1c2e7a", 812_400)
    assert [next(ids) for _ in range(3)] == [f"porch-5f1c2e7a-0812400-{n:06d}" for n in range(3)]


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


@pytest.mark.parametrize("name", EVENT.to_dict())
def test_a_missing_field_is_refused(name: str) -> None:
    document = EVENT.to_dict()
    del document[name]
    with pytest.raises(EventError, match=f"'{name}'"):
        Event.from_json(json.dumps(document))


@pytest.mark.parametrize("text", ["\ud800", '{"\ud800": 1}', json.dumps(EVENT.to_dict()).replace("alp", "\ud800")])
def test_text_that_no_utf_8_can_carry_is_refused(text: str) -> None:
    with pytest.raises(EventError, match=r"^An event.*\.$"):
        Event.from_json(text)


def test_keys_that_a_newer_version_added_are_ignored() -> None:
    document = EVENT.to_dict() | {"zone": "door"}
    document["top"] = [{**label, "colour": "red"} for label in document["top"]]
    assert Event.from_json(json.dumps(document)) == EVENT


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
