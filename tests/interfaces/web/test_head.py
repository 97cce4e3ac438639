"""Tests that HEAD is answered wherever GET is: the same status and headers, no body, and at once, for streams too."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.interfaces.web.box import MODEL, WAIT_S, Box, has, running

TOKEN = "correct-horse-battery-staple"
STATIC = Path(__file__).parents[3] / "edge" / "interfaces" / "web" / "static"
# Their length changes with what they contain, and Date with the second.
CHANGING = {"date", "content-length"}
OTHERS = [
    "/",
    "/login",
    "/openapi.json",
    *(f"/static/{file.name}" for file in STATIC.iterdir()),
    *("/static/nothing.js", "/static/", "/nothing", "/api/events?limit=1", "/api/events?limit=0", "/predict", "//"),
]


@pytest.fixture(scope="module", params=["open", "token"])
def box(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    file = None
    if request.param == "token":
        file = tmp_path_factory.mktemp("token") / "token"
        file.write_text(TOKEN)
    with running(stream=True, token_file=file) as started:
        assert has(started.recent.latest)
        if file:
            started.client.headers["Authorization"] = f"Bearer {TOKEN}"
        yield started


def answers(box: Box, method: str, path: str, **extra: str) -> tuple[int, dict[str, str]]:
    """The status and the headers; the body, which may never end, is not read."""
    with box.client.stream(method, path, headers=extra) as response:
        headers = {key: value for key, value in response.headers.items() if key not in CHANGING}
        return response.status_code, headers


def paths(box: Box) -> list[str]:
    document = box.client.get("/openapi.json").json()
    return [path.replace("{name}", str(MODEL["name"])) for path in document["paths"]] + OTHERS


def test_head_has_the_status_and_the_headers_of_get_on_every_path(box: Box) -> None:
    for path in paths(box):
        assert answers(box, "HEAD", path) == answers(box, "GET", path), path


def test_head_has_the_length_that_get_would_send(box: Box) -> None:
    for path in ("/static/page.js", "/api/model", "/healthz", "/nothing"):
        expected = box.client.get(path)
        assert box.client.head(path).headers["content-length"] == str(len(expected.content))


def test_head_of_a_stranger_is_refused_like_get(box: Box) -> None:
    # Without a token there is nothing to refuse but another host's name.
    host = {} if "Authorization" in box.client.headers else {"Host": "evil.example"}
    with httpx.Client(base_url=box.server.address, timeout=WAIT_S, headers=host) as stranger:
        for path in paths(box):
            head, get = stranger.head(path), stranger.get(path)
            assert head.status_code == get.status_code, path
            assert head.headers.get("www-authenticate") == get.headers.get("www-authenticate"), path
            assert head.headers.get("location") == get.headers.get("location"), path
            assert head.content == b""


def test_head_of_a_route_that_only_takes_photos_names_its_method(box: Box) -> None:
    answer = box.client.head("/predict")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"POST", "PUT"}
    assert box.client.put("/api/latest").headers["allow"] == "GET, HEAD"
    assert box.client.put("/static/page.js").headers["allow"] == "GET, HEAD"


def test_a_file_that_the_browser_has_is_not_modified_for_head_either(box: Box) -> None:
    tag = box.client.get("/static/page.css").headers["etag"]
    for method in ("GET", "HEAD"):
        status, headers = answers(box, method, "/static/page.css", **{"If-None-Match": tag})
        assert status == 304
        assert headers["etag"] == tag


def test_no_byte_of_a_body_follows_and_the_connection_serves_the_next_request(box: Box) -> None:
    address = urlsplit(box.server.address)
    token = box.client.headers.get("Authorization", "Bearer none")
    head = f"Host: {address.netloc}\r\nAuthorization: {token}\r\n"
    with socket.create_connection((str(address.hostname), int(address.port or 0)), WAIT_S) as connection:
        for path in paths(box):
            connection.sendall(f"HEAD {path} HTTP/1.1\r\n{head}\r\n".encode())
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(65536)
            assert received.startswith(b"HTTP/1.1 "), path
            assert received.endswith(b"\r\n\r\n"), path
        connection.sendall(f"HEAD /healthz HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
        last = b"".join(iter(lambda: connection.recv(65536), b""))
    assert last.startswith(b"HTTP/1.1 200 ")
    assert last.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("path", ["/api/stream", "/stream.mjpg"])
def test_head_on_a_stream_ends_and_keeps_no_place(box: Box, path: str) -> None:
    for _ in range(40):
        # A place is free again a moment after the answer.
        assert has(lambda: box.client.head(path).status_code == 200)
    with box.client.stream("GET", path) as response:
        assert response.status_code == 200


def test_head_is_an_error_where_get_is(box: Box) -> None:
    box.status.gauge(camera="waiting", camera_error="The camera is unplugged.")
    try:
        for path in ("/readyz", "/snapshot.jpg", "/stream.mjpg"):
            assert answers(box, "HEAD", path) == answers(box, "GET", path)
            assert box.client.head(path).status_code == 503, path
    finally:
        box.status.gauge(camera="online", camera_error="")


def test_curl_shows_the_headers_of_every_path(box: Box) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    token = box.client.headers.get("Authorization", "Bearer none")
    asked = [f"{box.server.address}{path}" for path in paths(box)]
    arguments = ["-sS", "-I", "--max-time", "10", "-H", f"Authorization: {token}", *asked]
    done = subprocess.run([curl, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("HTTP/1.1 ") == len(asked)
