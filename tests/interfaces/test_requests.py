"""Tests that a request may fail in any way and the next one is still answered."""

import base64
import logging
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

import edge.interfaces.requests
from edge.errors import RequestError
from edge.frames import Pixels
from tests.broker import eventually
from tests.photos.bombs import many_scans
from tests.photos.kinds import encoded
from tests.request_box import WAIT_S, Done
from tests.strangers_decoder import DECODER, cpu_s, decoders_of


def test_a_request_for_which_there_is_no_memory_is_refused_and_the_next_one_done() -> None:
    done = Done()
    with pytest.raises(RequestError, match="not enough memory"):
        done.requests.handle("use", {"name": "large-int8-000000"})
    assert done.requests.handle("use", {"name": "small-int8-000000"}) == {"model": "small-int8-000000"}


def fails(pixels: Pixels, side: int) -> bytes:
    raise ZeroDivisionError("a fault that nobody thought of")


def test_an_unexpected_failure_is_answered_and_logged_and_the_next_request_is_done(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done = Done()
    monkeypatch.setattr(edge.interfaces.requests, "encode_photo", fails)
    with pytest.raises(RequestError, match=r"The request failed \(ZeroDivisionError\); the log shows where\."):
        done.requests.handle("snapshot", {})
    (record,) = caplog.records
    assert record.getMessage() == "The request snapshot failed; the daemon goes on."
    assert record.exc_info, "the traceback has the place in the code"
    assert done.requests.handle("set", {"fps": 5.0}) == {"fps": 5.0}


def test_snapshots_that_fail_are_one_line_until_they_succeed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done = Done()
    with monkeypatch.context() as broken:
        broken.setattr(edge.interfaces.requests, "encode_photo", fails)
        assert [done.requests.snapshot() for _ in range(3)] == [None] * 3
    assert (done.requests.snapshot() or b"").startswith(b"\xff\xd8")
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    first, last = (record.getMessage() for record in caplog.records)
    assert first.startswith("No snapshot can be made (ZeroDivisionError: a fault that nobody thought of)")
    assert last.startswith("Snapshots can be made again. (after 0 s; failed 3 times)")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fps": 1e-9}, "fps: must be 0 for no limit, or at least 0.01, which is a frame in 100 s"),
        ({"fps": 241.0}, "fps: Input should be less than or equal to 240"),
        ({"fps": float("nan")}, "fps: "),
        ({"min_confidence": 100.1}, "min_confidence: Input should be less than or equal to 100"),
        ({"min_confidence": 50.0, "fps": 1e-300}, "fps: must be 0"),
    ],
)
def test_a_request_sets_nothing_that_the_settings_would_refuse(fields: dict[str, float], message: str) -> None:
    done = Done()
    with pytest.raises(RequestError) as refused:
        done.requests.handle("set", dict(fields))
    assert str(refused.value).startswith(message)
    assert done.changes == []
    assert done.requests.handle("set", {"fps": 0.01}) == {"fps": 0.01}


def test_other_requests_do_not_wait_for_a_photo() -> None:
    done = Done()
    DECODER.decode(encoded("PNG"), "first")
    (child,) = decoders_of(os.getpid())
    before_s = cpu_s(child)
    slow = base64.b64encode(many_scans()).decode()
    with ThreadPoolExecutor(1) as other:
        answer = other.submit(done.requests.handle, "classify", {"image": slow})
        eventually(lambda: cpu_s(child) > before_s + 0.1, "it decodes")
        assert done.requests.handle("rollback", {}) == {"model": "old-int8-000000"}
        assert done.requests.handle("set", {"fps": 5.0}) == {"fps": 5.0}
        assert done.requests.handle("snapshot", {})["image"]
        assert not answer.done()
        with pytest.raises(RequestError, match=r"^image takes more than 2 s to decode; "):
            answer.result(WAIT_S)
    assert done.requests.handle("classify", {"image": base64.b64encode(encoded("PNG")).decode()})["top"]


@pytest.mark.parametrize(("top", "labels"), [(None, 3), (1, 1), (2, 2), (3, 3)])
def test_as_many_classes_are_returned_as_are_asked_for(top: int | None, labels: int) -> None:
    asked = {} if top is None else {"top": top}
    answer = Done().requests.handle("classify", asked)
    assert [label["label"] for label in answer["top"]] == ["dog", "owl", "cat"][:labels]


@pytest.mark.parametrize("top", [0, -1, 4, 10**30, True, "2", 2.0])
def test_a_number_of_classes_that_the_model_does_not_have_is_refused(top: object) -> None:
    with pytest.raises(RequestError, match=r"^top"):
        Done().requests.handle("classify", {"top": top})
