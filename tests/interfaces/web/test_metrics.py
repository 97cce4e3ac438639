"""Tests the metrics: requests and refusals, events by label, and that strangers cannot make them grow."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge.events import Event, Label
from edge.interfaces.web import connection, event_stream, listener
from edge.status.recent import COUNTED_LABELS, OTHER_LABELS, Recent
from tests.interfaces.web.box import WAIT_S, Box, has, running

TOKEN = "correct-horse-battery-staple"
# Each of them has a meaning in Prometheus' text format, or in HTML.
WEIRD = ['a "quoted" cat', "back\\slash\\n", "two\nlines", "大熊猫 🐼", "", " spaces ", "{}=,#", "<b>", OTHER_LABELS]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    with running(token_file=file) as started:
        started.client.headers["Authorization"] = f"Bearer {TOKEN}"
        assert has(started.recent.latest)
        yield started


def samples(box: Box, name: str) -> dict[tuple[str, ...], float]:
    """The values of one metric by those of its labels, in the order of their names."""
    families = text_string_to_metric_families(box.client.get("/metrics").text)
    found = [sample for family in families for sample in family.samples if sample.name == f"edge_classifier_{name}"]
    return {tuple(value for _, value in sorted(sample.labels.items())): sample.value for sample in found}


def is_closed(address: tuple[str, int]) -> bool:
    """Whether the box closes a connection on which nothing is sent."""
    with socket.create_connection(address, WAIT_S) as silent:
        try:
            return silent.recv(1) == b""
        except ConnectionError:
            return True


def an_event(label: str, reason: str = "change") -> Event:
    top = (Label(label, 90.0, 1),)
    return Event("id", "porch", reason, "2026-01-01T00:00:00.000Z", True, "b", 1.0, label, top, "m", {})  # type: ignore[arg-type]


def test_requests_are_counted_by_route_method_and_status(box: Box) -> None:
    asked = [
        ("GET", "/api/events?limit=1", "/api/events", "200"),
        ("GET", "/api/events?limit=0", "/api/events", "422"),
        ("HEAD", "/api/latest", "/api/latest", "200"),
        ("PUT", "/api/latest", "/api/latest", "405"),
        ("GET", "/static/page.js", "/static/{path}", "200"),
        ("GET", "/static/nothing", "/static/{path}", "404"),
        ("GET", "/nothing", "other", "404"),
        ("BREW", "/", "/", "405"),
        ("GET", "/login", "/login", "200"),
    ]
    for method, path, *_ in asked:
        box.client.request(method, path)
    with box.client.stream("GET", "/api/stream"):
        counted = samples(box, "http_requests_total")  # a stream that is open is counted too
    for method, _, route, status in [*asked, ("GET", "", "/api/stream", "200")]:
        known = method if method != "BREW" else "other"
        assert counted[known, route, status] == 1, (method, route)


def test_every_documented_route_is_counted_under_its_name(box: Box) -> None:
    """Newer versions of FastAPI keep the routes of a router to themselves."""
    documented = list(box.client.get("/openapi.json").json()["paths"])
    for path in documented:
        box.client.head(path.replace("{name}", "a-model").replace("{version}", "1"))
    assert set(documented) <= {route for method, route, _ in samples(box, "http_requests_total") if method == "HEAD"}


def test_a_thousand_addresses_and_methods_are_a_few_series(box: Box) -> None:
    before = len(box.client.get("/metrics").text.splitlines())
    address = urlsplit(box.server.address)
    head = f"Host: {address.netloc}\r\nAuthorization: {box.client.headers['Authorization']}\r\n"
    with socket.create_connection((str(address.hostname), int(address.port or 0)), WAIT_S) as line:
        answers = line.makefile("rb")
        for first in range(0, 1000, 20):
            numbers = range(first, first + 20)
            asked = "".join(f"{('HEAD', f'M{n}')[n % 2]} /a/{n}?q={n} HTTP/1.1\r\n{head}\r\n" for n in numbers)
            line.sendall(asked.encode())
            for number in numbers:
                length = 0
                while (header := answers.readline()) != b"\r\n":
                    if header.startswith(b"content-length: ") and number % 2:  # HEAD has no body
                        length = int(header.split()[1])
                answers.read(length)
    assert len(box.client.get("/metrics").text.splitlines()) <= before + 4
    counted = samples(box, "http_requests_total")
    assert (counted["HEAD", "other", "404"], counted["other", "other", "404"]) == (500, 500)


def test_refusals_are_counted_by_reason(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(samples(box, "http_refusals_total").values()) == {0}
    with httpx.Client(base_url=box.server.address, timeout=WAIT_S) as stranger:
        stranger.get("/", headers={"Authorization": "Bearer wrong"})
        stranger.post("/login", data={"token": "wrong"})
        stranger.get("/api/latest")  # without a token: status 401 among the requests
    refused = samples(box, "http_refusals_total")
    assert refused["wrong_token",] == 2
    assert samples(box, "http_requests_total")["GET", "/api/latest", "401"] == 1
    monkeypatch.setattr(connection, "HEADERS_WITHIN_S", 0.2)
    address = (str(urlsplit(box.server.address).hostname), int(urlsplit(box.server.address).port or 0))
    assert is_closed(address)
    assert has(lambda: samples(box, "http_refusals_total")["slow",] == 1)
    monkeypatch.setattr(listener, "MAX_CONNECTIONS", 0)
    monkeypatch.setattr(listener, "MIN_CONNECTIONS", 0)
    assert is_closed(address)
    monkeypatch.undo()
    assert has(lambda: samples(box, "http_refusals_total")["connections",] >= 1)


def test_an_answer_that_is_one_too_many_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "MAX_LISTENERS", 0)
    with running() as box:
        assert box.client.get("/api/stream").status_code == 429
        assert samples(box, "http_refusals_total")["too_many",] == 1


def test_events_are_counted_by_label_and_labels_may_have_any_characters(box: Box) -> None:
    for label in WEIRD:
        box.recent.add(an_event(label))
    box.recent.add(an_event(WEIRD[0], "heartbeat"))
    counted = samples(box, "events_by_label_total")
    for label in WEIRD:
        assert counted[label, "change"] == 1, label
    assert counted[WEIRD[0], "heartbeat"] == 1


def test_labels_beyond_a_number_are_counted_together_and_no_count_becomes_smaller() -> None:
    recent = Recent()
    for number in range(COUNTED_LABELS + 50):
        recent.add(an_event(f"class {number}"))
    recent.add(an_event("class 0"))
    recent.add(an_event(f"class {COUNTED_LABELS}"))
    counts = recent.counts()
    assert len(counts) == COUNTED_LABELS + 1
    assert counts["class 0", "change"] == 2
    assert counts[OTHER_LABELS, "change"] == 51
    assert sum(counts.values()) == COUNTED_LABELS + 52


def test_a_scrape_while_the_daemon_stops_is_whole_or_refused() -> None:
    """Prometheus must not take half of the metrics for all of them."""
    with running() as box:
        address, done = box.server.address, False
        with httpx.Client(base_url=address, timeout=WAIT_S) as monitor:
            assert monitor.get("/metrics").status_code == 200
            stopping = time.monotonic() + 0.1
            while not done:
                if time.monotonic() > stopping:
                    assert box.server.stop(WAIT_S)
                    done = True
                try:
                    answer = monitor.get("/metrics")
                except httpx.HTTPError:
                    break
                assert answer.status_code == 200
                assert len(answer.content) == int(answer.headers["content-length"])
        assert done


def test_the_part_of_the_log_in_use_is_known(box: Box) -> None:
    box.status.gauge(log_used_percent=42.0)
    assert samples(box, "fallback_log_used_ratio")[()] == pytest.approx(0.42)
