"""Tests the REST API over real HTTP: predictions, events, status, streams, limits and errors."""

import asyncio
import base64
import contextlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from typing import Any
from urllib.parse import urlsplit

import cv2
import httpx
import numpy as np
import pytest

from edge.events import Event, Label
from edge.interfaces.web import event_stream, live_picture, photo_upload, predictor
from edge.interfaces.web.closing_stream import ClosingStream
from edge.interfaces.web.history import History
from edge.status.snapshot import StatusSnapshot
from tests.interfaces.web.box import CLASSES, MODEL, WAIT_S, Box, Model, has, photo, running


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with running() as started:
        assert has(started.recent.latest)
        yield started


def test_the_newest_event_is_the_one_that_went_out(box: Box) -> None:
    event = box.recent.latest()
    assert event is not None
    assert box.client.get("/api/latest").json() == json.loads(event.to_json())


def test_events_come_from_memory_and_from_the_log_once_each_in_order(box: Box) -> None:
    top = (Label("class 1", 86.0, 1),)
    stored = Event("porch-old-0-0", "porch", "change", "2026-01-01T00:00:00.000Z", True, "old", 1.0, "x", top, "m", {})
    newest = box.recent.latest()
    assert newest is not None
    box.logged[:] = [stored, newest]
    events = box.client.get("/api/events").json()["events"]
    assert events[0] == json.loads(stored.to_json())
    ids = [event["id"] for event in events]
    assert len(ids) == len(set(ids))
    later = box.client.get("/api/events", params={"since": "2026-01-01T00:00:00.000Z"}).json()["events"]
    assert stored.id not in [event["id"] for event in later]
    assert len(box.client.get("/api/events", params={"limit": 1}).json()["events"]) == 1


def test_a_wrong_question_is_answered_with_a_problem_document(box: Box) -> None:
    for path, status in (
        ("/api/events?since=yesterday", 422),
        ("/api/events?since=0.5", 422),
        ("/api/events?since=0001-01-01T00:00:00%2B23:59", 422),
        ("/api/events?limit=0", 422),
        ("/nothing", 404),
        ("/stream.mjpg", 404),
    ):
        answer = box.client.get(path)
        assert answer.status_code == status, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
        assert answer.json()["detail"]
    assert box.client.delete("/predict").status_code == 405
    detail = box.client.get("/api/events?since=0.5").json()["detail"]
    assert detail == "query.since: must be a time such as 2026-11-22T10:15:30Z."


def test_status_model_history_and_probes(box: Box) -> None:
    assert has(lambda: box.client.get("/api/status").json()["frames_per_s"] > 0)
    assert box.client.get("/api/status").json()["temperature_celsius"] == 48.5
    assert box.client.get("/api/model").json() == {**MODEL, "classes": CLASSES}
    history = box.client.get("/api/history").json()
    assert history["points"][0]["temperature_celsius"] == 48.5
    assert history["states"][0]["label"] == "class 1"
    assert box.client.get("/healthz").json() == {"status": "ok"}
    assert box.client.get("/readyz").json() == {"status": "ready"}


def test_the_last_hour_says_when_the_camera_was_away(box: Box) -> None:
    assert box.client.get("/api/history").json()["away"] == []
    now = 1000.0
    camera = "online"
    history = History(lambda: StatusSnapshot({}, {"camera": camera}, {}), lambda: now, lambda: now)
    for now, camera in ((1000.0, "online"), (1001.0, "waiting"), (1002.0, "waiting"), (1005.0, "online")):  # noqa: B007
        history.sample()
    assert history.away() == [{"since": 1001.0, "until": 1005.0}]
    now, camera = 1009.0, "ended"
    history.sample()
    assert history.away()[1:] == [{"since": 1009.0, "until": None}]


def test_a_box_that_sees_nothing_is_alive_but_not_ready(box: Box) -> None:
    box.status.gauge(camera="waiting", camera_error="There is no camera; plug one in.")
    try:
        answer = box.client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["detail"] == "There is no camera; plug one in."
        assert box.client.get("/healthz").status_code == 200
    finally:
        box.status.gauge(camera="online", camera_error="")


def test_a_snapshot_is_what_the_camera_sees_now(box: Box) -> None:
    answer = box.client.get("/snapshot.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "no-store"
    pixels = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    assert pixels.shape == (120, 160, 3)
    assert abs(int(pixels.mean()) - 30) <= 2


def test_a_snapshot_without_a_camera_is_refused_not_old(box: Box) -> None:
    box.status.gauge(camera="waiting")
    try:
        assert box.client.get("/snapshot.jpg").status_code == 503
    finally:
        box.status.gauge(camera="online")


def test_an_answer_that_is_remembered_is_forgotten_with_its_model(box: Box) -> None:
    sent = {"file": ("cat.png", photo(5))}
    assert [box.client.post("/predict", files=sent).json()["cached"] for _ in range(2)] == [False, True]
    other = Model(0.002, [f"thing {n}" for n in range(CLASSES)])
    other.name = box.described["name"] = "other-int8-000000"
    box.pipeline.swap(other)
    try:
        answer = box.client.post("/predict", files=sent).json()
        assert (answer["cached"], answer["model"], answer["top"][0]["label"]) == (False, other.name, "thing 5")
        assert box.client.get("/api/model").json()["name"] == other.name
    finally:
        box.described["name"] = MODEL["name"]
        box.pipeline.swap(box.model)


def test_one_photo_as_curl_sends_it(box: Box) -> None:
    answer = box.client.post("/predict", files={"file": ("cat.png", photo(3))}).json()
    assert answer["top"][0] == {"label": "class 3", "confidence": 86.0, "index": 3}
    assert len(answer["top"]) == 3
    assert answer["model"] == MODEL["name"]
    assert set(answer["latency_ms"]) == {"decode", "preprocess", "inference", "total"}


def test_several_photos_as_a_form_and_as_json_are_answered_in_order(box: Box) -> None:
    form = box.client.post("/predict", files=[("file", (f"{n}.png", photo(n))) for n in (2, 5, 4)]).json()
    assert [one["top"][0]["index"] for one in form] == [2, 5, 4]
    texts = [base64.b64encode(photo(n)).decode() for n in (6, 1)]
    several = box.client.post("/predict", json={"images": texts}).json()
    assert [one["top"][0]["index"] for one in several] == [6, 1]
    one = box.client.post("/predict", json={"image": f"data:image/png;base64,{texts[0]}"}).json()
    assert one["top"][0]["index"] == 6


def test_the_same_photo_is_answered_without_the_model(box: Box) -> None:
    content = photo(4, width=33)
    first = box.client.post("/predict", files={"file": content}).json()
    before = box.status.snapshot().counters["photos_classified"]
    again = box.client.post("/predict", files={"file": content}).json()
    assert (first["cached"], again["cached"]) == (False, True)
    assert again["top"] == first["top"]
    assert box.status.snapshot().counters["photos_classified"] == before


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        ({"files": {"file": b"not a photo"}}, 422, "not a photo"),
        (
            {"files": {"file": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"}},
            422,
            "is an HEIC photo, which cannot be decoded here",
        ),
        ({"files": {"file": b""}}, 422, "empty"),
        ({"files": {"file": photo(1)[:-20]}}, 422, "truncated"),
        ({"files": {"file": photo(1, 8000, 8000)}}, 413, "8000×8000"),
        ({"files": {"file": b"\xff" * (photo_upload.MAX_BODY_BYTES + 1)}}, 413, "more than 12 MiB"),
        ({"files": [("file", photo(1))] * (photo_upload.MAX_PHOTOS + 1)}, 400, "Too many files"),
        ({"data": {"file": "text"}, "files": {}}, 415, "multipart/form-data"),
        ({"json": {"image": "?"}}, 400, "not base64"),
        ({"json": {"image": 5}}, 400, "must look like"),
        ({"json": ["x"]}, 400, "must look like"),
        ({"json": {"images": []}}, 400, "no photo"),
        ({"json": {"images": ["aGk="] * (photo_upload.MAX_PHOTOS + 1)}}, 413, "at most 16"),
        ({"content": b"[" * 10**6, "headers": {"content-type": "application/json"}}, 400, "not JSON"),
        ({"json": dict.fromkeys(map(str, range(1001)), 0)}, 400, "more than 1000 values"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "cannot be read"),
        (
            {"content": b"--a\r\nx", "headers": {"content-type": "multipart/form-data; boundary=a"}},
            400,
            "no photo",
        ),
    ],
)
def test_a_bad_photo_is_refused_with_a_reason(box: Box, request_: dict[str, object], status: int, message: str) -> None:
    answer = box.client.post("/predict", **request_)  # type: ignore[arg-type]
    assert answer.status_code == status, answer.text
    assert message in answer.json()["detail"]
    assert box.client.post("/predict", files={"file": photo(1)}).status_code == 200


def test_a_body_without_a_length_is_bounded_too(box: Box) -> None:
    piece = b"\xff" * (1 << 20)
    answer = box.client.post(
        "/predict", content=(piece for _ in range(13)), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413


def test_the_surplus_gets_a_time_to_retry(box: Box) -> None:
    answers: list[int] = []

    def ask(number: int) -> None:
        answer = box.client.post("/predict", files={"file": photo(2, width=50 + number)})
        answers.append(answer.status_code)
        assert answer.status_code == 200 or answer.headers["retry-after"] == "1"

    box.model.hold.clear()
    threads = [threading.Thread(target=ask, args=(n,)) for n in range(predictor.MAX_REQUESTS + 6)]
    try:
        for thread in threads:
            thread.start()
        assert has(lambda: answers == [429] * 6)
    finally:
        box.model.hold.set()
        for thread in threads:
            thread.join(20)
    assert sorted(answers) == [200] * predictor.MAX_REQUESTS + [429] * 6


def test_photos_that_wait_for_the_model_hold_no_pixels(box: Box) -> None:
    """The pixels of all photos that may wait (150 MB each) would not fit into a board's memory."""
    photos, width = 4, 91

    def pixels() -> list[object]:
        return [pixels() for shape, pixels in list(box.model.prepared) if shape[1] == width]

    def ask(number: int) -> None:
        box.client.post("/predict", files={"file": photo(2, width=width, height=50 + number)})

    box.model.hold.clear()
    threads = [threading.Thread(target=ask, args=(n,)) for n in range(photos)]
    try:
        for thread in threads:
            thread.start()
        assert has(lambda: len(pixels()) == photos)
        assert has(lambda: pixels() == [None] * photos)
        assert all(thread.is_alive() for thread in threads)
    finally:
        box.model.hold.set()
        for thread in threads:
            thread.join(20)


def test_a_model_that_does_not_answer_is_an_error_in_time(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor, "ANSWER_WITHIN_S", 0.2)
    box.model.hold.clear()
    try:
        answer = box.client.post("/predict", files={"file": photo(5, width=77)})
        assert answer.status_code == 503
        assert "did not answer" in answer.json()["detail"]
    finally:
        box.model.hold.set()


def test_no_label_is_sent_while_the_camera_is_away(box: Box) -> None:
    def tops_with_camera(stream: httpx.Response) -> Iterator[dict[str, Any]]:
        """Each `top` message, with the camera's state in the last `status` message."""
        kind, camera = "", ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: ") and kind in ("status", "top"):
                document = json.loads(line.removeprefix("data: "))
                camera = document.get("camera", camera)
                if kind == "top":
                    yield {"camera": camera, **document}

    with box.client.stream("GET", "/api/stream") as stream:
        tops = tops_with_camera(stream)
        assert len(next(tops)["top"]) == 3
        box.camera.plugged = False
        box.status.gauge(camera="waiting")
        assert next(top for top in tops if not top["top"])["camera"] == "waiting"
        try:
            with box.client.stream("GET", "/api/stream") as late:
                assert next(tops_with_camera(late)) == {"camera": "waiting", "top": []}
        finally:
            box.camera.plugged = True
            box.status.gauge(camera="online")
        assert next(top for top in tops if top["top"])["camera"] == "online"


def test_listeners_hear_of_status_labels_events_and_log_lines(box: Box) -> None:
    import logging

    kinds: set[str] = set()
    with box.client.stream("GET", "/api/stream") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        logging.getLogger("edge.test").warning("the broker was unplugged")
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kinds.add(line.removeprefix("event: "))
            box.camera.shows = 2 + int(time.monotonic() * 2) % 4
            if kinds == {"status", "top", "event", "log"}:
                break
    assert kinds == {"status", "top", "event", "log"}


def test_of_many_listeners_that_come_at_once_a_few_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "MAX_LISTENERS", 3)
    with running() as box:
        place = urlsplit(box.server.address)
        with contextlib.ExitStack() as stack:
            listeners = [
                stack.enter_context(socket.create_connection((place.hostname, place.port), WAIT_S)) for _ in range(20)
            ]
            for listener in listeners:  # all requests are sent before the first is answered
                listener.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            statuses = [listener.recv(12).split()[1] for listener in listeners]
        assert Counter(statuses) == {b"200": 3, b"429": 17}

        def is_heard() -> bool:
            with box.client.stream("GET", "/api/stream") as stream:
                return stream.status_code == 200

        assert has(is_heard)  # a client that leaves makes room


def test_a_stream_ends_with_its_client_although_the_server_raises_no_error() -> None:
    """uvicorn 0.32.0 announces ASGI 2.4, but sends to a client that has left without an error."""

    async def streamed() -> bool:
        left, closed = asyncio.Event(), False

        async def pieces() -> AsyncGenerator[str, None]:
            nonlocal closed
            try:
                while True:
                    yield "piece"
                    await asyncio.sleep(0)
            finally:
                closed = True

        async def receive() -> dict[str, Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                left.set()

        scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}}
        await asyncio.wait_for(ClosingStream(pieces())(scope, receive, send), WAIT_S)
        return closed

    assert asyncio.run(streamed())


def test_the_live_picture_is_streamed_when_it_is_on_and_to_a_few_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_picture, "MAX_STREAMS", 1)
    with running(stream=True) as box, box.client.stream("GET", "/stream.mjpg") as stream:
        assert stream.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
        received = b""
        pieces = stream.iter_bytes()
        for piece in pieces:
            received += piece
            if received.count(b"\xff\xd9") >= 3:
                break
        assert received.count(b"--frame\r\nContent-Type: image/jpeg") >= 3
        assert box.client.get("/stream.mjpg").status_code == 429


def test_a_live_picture_without_a_camera_is_refused() -> None:
    with running(stream=True) as box:
        box.status.gauge(camera="waiting")
        assert box.client.get("/stream.mjpg").status_code == 503


def test_metrics_say_what_the_status_says(box: Box) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    box.status.gauge(outbox_events=3)
    text = box.client.get("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["edge_classifier_frames_classified"].samples[0].value > 0
    assert families["edge_classifier_temperature_celsius"].samples[0].value == 48.5
    assert families["edge_classifier_outbox_events"].samples[0].value == 3
    assert families["edge_classifier_photos_waiting"].samples[0].value == 0
    assert families["edge_classifier_build_info"].samples[0].labels["model"] == MODEL["name"]
    latencies = families["edge_classifier_stage_latency_seconds"]
    assert {sample.labels["stage"] for sample in latencies.samples} == {"capture", "preprocess", "inference"}
    buckets = [s.value for s in latencies.samples if s.name.endswith("_bucket") and s.labels["stage"] == "inference"]
    assert buckets == sorted(buckets)
    assert "process_resident_memory_bytes" in families
