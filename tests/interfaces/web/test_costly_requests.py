"""Tests that no small request takes long: where libraries need the square of its length, it is bounded before them."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.interfaces.web.box import MODEL, WAIT_S, Box, has, photo, running
from tests.interfaces.web.test_kserve import tensor
from tests.interfaces.web.test_strangers import place_of

INFER = f"/v2/models/{MODEL['name']}/infer"
WITHIN_S = 1.0  # of the processor; without the bounds each takes 2 to 20 s, with some versions of the libraries
HEADER = 60_000  # bytes; uvicorn refuses headers of 64 KiB
FORM = {"content-type": "multipart/form-data; boundary=b"}


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with running() as started:
        assert has(started.recent.latest)
        assert started.client.get("/healthz").status_code == 200  # has imported the libraries
        yield started


def quickly(box: Box, method: str, path: str, **request: object) -> httpx.Response:
    """The answer, which must take little time of the processor."""
    began = time.process_time()
    answer = box.client.request(method, path, **request)  # type: ignore[arg-type]
    assert time.process_time() - began < WITHIN_S
    return answer


@pytest.mark.parametrize("path", ["/healthz", "/api/labels", "/static/page.css"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cookie", 'a="' + '\\"' * (HEADER // 2) + '"'),
        ("cookie", 'edge_session="' + "\\073" * (HEADER // 4) + '"'),
        ("cookie", "edge_session=a;" * (HEADER // 15)),
        ("range", "bytes=" + "0-1," * (HEADER // 4) + "0-1"),
        ("if-none-match", '"a",' * (HEADER // 4)),
        ("if-modified-since", "1" + " 1" * (HEADER // 2)),
        ("accept", "a/b;q=1," * (HEADER // 8)),
        ("accept-encoding", "gzip;" * (HEADER // 5)),
        ("content-type", 'a/b; c="' + ";" * HEADER),
        ("x-forwarded-for", "1," * (HEADER // 2)),
        ("x-forwarded-for", ":" * HEADER),
        ("origin", "http://[" + ":" * HEADER),
        ("authorization", "Basic " + "A" * HEADER),
        ("user-agent", "mozilla" * (HEADER // 7)),
        ("last-event-id", "-" * HEADER),
    ],
    ids=lambda text: text[:20],
)
def test_a_long_header_takes_little_time(box: Box, path: str, name: str, value: str) -> None:
    assert quickly(box, "GET", path, headers={name: value}).status_code in (200, 304)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/events?before=" + "2026-01-01T00:00:00.000Z_" + "a" * HEADER, 422),
        ("/api/events?label=" + "%C3%9F" * (HEADER // 6), 200),
        ("/api/events?since=" + "9" * HEADER, 422),
        ("/api/events?since=2026-01-01T00:00:00." + "9" * HEADER, 200),
        ("/api/events?limit=" + "9" * HEADER, 422),
        ("/api/events?" + "a&" * (HEADER // 2), 200),
        ("/v2/models/" + "%2e" * (HEADER // 3), 404),
        ("/x" + "/" * HEADER, 404),
        ("/static/" + "%2e%2e/" * (HEADER // 7), 404),
    ],
    ids=lambda text: str(text)[:30],
)
def test_a_long_address_takes_little_time(box: Box, path: str, status: int) -> None:
    assert quickly(box, "GET", path).status_code == status


@pytest.mark.parametrize("shape", [b"9" * 4290, b"9" * 99, b"1", b"-1"], ids=lambda side: side[:3].decode())
def test_a_shape_of_many_or_long_numbers_is_refused_at_once(box: Box, shape: bytes) -> None:
    sides = b",".join([shape] * 600)
    body = b'{"inputs":[{"name":"image","datatype":"BYTES","shape":[2,%s],"data":["x"]}]}' % sides
    answer = quickly(box, "POST", INFER, content=body)
    assert answer.status_code == 400
    assert len(answer.text) < 1000


@pytest.mark.parametrize(
    "top", ["9" * 4290, "-" + "9" * 4290, "1e999", "NaN", "0." + "1" * (1 << 20)], ids=lambda number: number[:5]
)
def test_a_long_number_is_refused_at_once(box: Box, top: str) -> None:
    content = '{"image": "AAAA", "top": %s}' % top  # noqa: UP031 - braces are JSON's here
    answer = quickly(box, "POST", "/predict", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert len(answer.text) < 1000


def part(headers: bytes, content: bytes = b"x") -> bytes:
    return b"--b\r\n" + headers + b"\r\n\r\n" + content + b"\r\n--b--\r\n"


@pytest.mark.parametrize(
    "body",
    [
        part(b'Content-Disposition: form-data; name="' + b";" * 100_000),
        part(b'Content-Disposition: form-data; name="file"; filename="' + b'\\"' * 50_000),
        part(b"Content-Disposition: form-data" + b";a=b" * 50_000),
        part(b"\r\n".join([b"a:"] * 1_000_000)),
        part(b"\r\n".join([b"a: b"] * 1_000_000)),
        part(b"a" * 1_000_000 + b": b"),
    ],
    ids=["open quote", "escapes", "parameters", "empty headers", "headers", "long name"],
)
def test_a_form_with_long_headers_is_refused_at_once(box: Box, body: bytes) -> None:
    answer = quickly(box, "POST", "/predict", content=body, headers=FORM)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("The form cannot be read: ")


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=b", "application/json", "image/jpeg", ""])
def test_a_long_content_type_is_refused_at_once(box: Box, kind: str) -> None:
    headers = {"content-type": f'{kind}; a="' + ";" * HEADER}
    answer = quickly(box, "POST", "/predict", content=part(b"a: b"), headers=headers)
    assert answer.status_code == 400
    assert answer.json()["detail"] == "The Content-Type has more than 500 characters."


@pytest.mark.parametrize("name", ["a" * 255, "猫" * 255])
def test_the_longest_name_of_a_file_is_taken(box: Box, name: str) -> None:
    assert box.client.post("/predict", files={"file": (name, photo(3))}).status_code == 200


CHUNKED = b"POST %s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


def read_all(connection: socket.socket) -> bytes:
    """What the page sends until it closes the connection."""
    content = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            content += piece
    return content


@pytest.mark.parametrize("path", [b"/healthz", b"/login", b"/predict", b"/api/status", b"/none"])
def test_a_body_in_chunks_of_one_byte_is_refused_at_once(
    box: Box, path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    began = time.process_time()
    with socket.create_connection(place_of(box.server.address), WAIT_S) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(CHUNKED % path)
            for _ in range(400):
                connection.sendall(b"1\r\nx\r\n" * 2000)
        read_all(connection)
    assert time.process_time() - began < WITHIN_S
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("size", [7, 100, 1000])
def test_a_photo_in_small_chunks_is_taken(box: Box, size: int) -> None:
    content = photo(3, 640, 480)
    pieces = (content[at : at + size] for at in range(0, len(content), size))
    assert box.client.post("/predict", content=pieces).status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        CHUNKED % b"/healthz" + b"no chunk\r\n",
    ],
    ids=["length", "chunk"],
)
@pytest.mark.parametrize("late", [False, True])
def test_what_is_not_http_closes_the_connection_without_a_traceback(
    box: Box, content: bytes, caplog: pytest.LogCaptureFixture, *, late: bool
) -> None:
    with socket.create_connection(place_of(box.server.address), WAIT_S) as connection:
        head, end, rest = content.partition(b"\r\n\r\n")
        connection.sendall(head + end)
        answer = connection.recv(12) if late and rest else b""  # then it has been answered already
        connection.sendall(rest)
        assert (answer + read_all(connection))[:10] == b"HTTP/1.1 4"
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


HALVES = ["\ud800", "\udfff", "a\udc80b" * 20]


@pytest.mark.parametrize("half", HALVES, ids=ascii)
def test_half_a_surrogate_pair_is_an_answer_and_not_a_fault(box: Box, half: str) -> None:
    good = tensor(photo(3))
    image = good["data"][0]
    for path, document, status in (
        ("/predict", {"image": image, "top": half}, 422),
        ("/predict", {"image": half}, 400),
        ("/predict", {half: half}, 400),
        (INFER, {"inputs": [good], "parameters": {"top": half}}, 422),
        (INFER, {"inputs": [good | {"data": [half]}]}, 400),
        (INFER, {"inputs": [good | {"name": half}]}, 400),
        (INFER, {"inputs": [good], "parameters": {half: half}, half: half}, 200),
    ):
        raw = json.dumps(document, ensure_ascii=False).encode(errors="surrogatepass")
        for content in (json.dumps(document).encode(), raw):
            answer = box.client.post(path, content=content, headers={"content-type": "application/json"})
            assert answer.status_code == status, (document, answer.text)
    answer = box.client.post(INFER, content=json.dumps({"id": half, "inputs": [good]}))
    assert answer.status_code == 200
    assert answer.json()["id"] == half, "as it was sent"
