"""Tests that any request published over MQTT is answered once, and changes nothing that it may not change."""

import contextlib
import json
import os
import queue
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, find, given, settings
from hypothesis import strategies as st

from tests import fuzzing
from tests.broker import brokers_in
from tests.request_box import Asker, Done, box

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
KNOWN_KEYS = st.sampled_from(["transaction", "image", "min_confidence", "fps", "name"])
REQUESTS = (
    st.binary(max_size=200)
    | ANY_JSON.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(KNOWN_KEYS, ANY_JSON, min_size=1).map(lambda value: json.dumps(value).encode())
)
NAMES = st.sampled_from(
    ["snapshot", "classify", "reload", "set", "model", "use", "rollback", "fly", "", "$SYS", "ü" * 40]
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Asker, Done]]:
    """A box on a real broker, and a client that sends bad requests."""
    folder = tmp_path_factory.mktemp("fuzz")
    with brokers_in(folder) as started:
        broker = started.start()
        asker = Asker(broker)
        with box(broker, Path(folder)) as done:
            eventually_ready(asker)
            yield asker, done
        asker.close()


def eventually_ready(asker: Asker) -> None:
    """Send requests until the box answers, because the test cannot see when the box has subscribed."""
    for _ in range(40):
        asker.send("edge/porch/request/reload")
        with contextlib.suppress(queue.Empty):
            asker.answers.get(timeout=0.5)
            return
    pytest.fail("the box answers nothing")


@pytest.mark.timeout(fuzzing.TIMEOUT_S)
def test_every_request_has_one_answer(fuzzed: tuple[Asker, Done]) -> None:
    find(REQUESTS, bool)  # hypothesis first reads Unicode's tables, which take 200 MB when they are not cached
    until = time.monotonic() + fuzzing.SECONDS
    with fuzzing.bounded():
        answers_each(fuzzed)
        while time.monotonic() < until:
            answers_each(fuzzed)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES, payload=REQUESTS)
@example(name="reload", payload=b'{"transaction": "\\ud800"}')
@example(name="set", payload=b'{"fps": "\\udfff"}')
@example(name="set", payload=b'{"fps": 1e999, "min_confidence": NaN}')
@example(name="classify", payload=b'{"image": "' + b"A" * 70_000 + b'"}')
@example(name="snapshot", payload=b"[" * 60_000)
def answers_each(fuzzed: tuple[Asker, Done], name: str, payload: bytes) -> None:
    asker, done = fuzzed
    mark = os.urandom(8)
    asker.send(f"edge/porch/request/{name}", payload, CorrelationData=mark)
    answer = asker.answers.get(timeout=20)
    assert answer.properties.CorrelationData == mark
    document = json.loads(answer.payload)
    assert document["status"] in ("ok", "error")
    assert asker.answers.empty()
    while done.changes:
        min_confidence, fps = done.changes.pop()
        assert min_confidence is None or 0 <= min_confidence <= 100
        assert fps is None or fps == 0 or 0.01 <= fps <= 240
