"""Tests HTTP Basic with the token as the password, for programs that send no bearer token, such as cameras' clients."""

import base64
import urllib.request
from collections.abc import Iterator

import pytest

from edge.interfaces.web.token import token_of
from tests.interfaces.web.box import WAIT_S, Box, has, running

TOKEN = "blå:grütze:" + "x1y2z3a4b5"
BROWSER = "Mozilla/5.0 (X11; Linux aarch64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    file = tmp_path_factory.mktemp("web") / "token"
    file.write_text(TOKEN, encoding="utf-8")
    with running(token_file=file) as started:
        assert has(started.recent.latest)
        yield started


def _basic(text: bytes, scheme: str = "Basic") -> str:
    return f"{scheme} {base64.b64encode(text).decode()}"


@pytest.mark.parametrize("user", ["", "porch", "ünal", "a@b.example"])
def test_the_token_is_the_password_of_any_user(box: Box, user: str) -> None:
    for header in (
        _basic(f"{user}:{TOKEN}".encode()),
        _basic(f"{user}:{TOKEN}".encode(), "basic"),
        _basic(f"{user}:{TOKEN}".encode(), "BASIC "),
        _basic(f"{user}:{TOKEN}".encode("latin-1")),  # as aiohttp and requests encode it
    ):
        for path in ("/snapshot.jpg", "/api/status", "/metrics"):
            answer = box.client.get(path, headers={"authorization": header})
            assert answer.status_code == 200, (path, header)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_bearer_token_need_not_be_ascii(box: Box, encoding: str) -> None:
    header = b"Bearer " + TOKEN.encode(encoding)
    assert box.client.get("/api/status", headers={b"authorization": header}).status_code == 200


def test_programs_that_wait_for_the_challenge_send_the_password_then(box: Box) -> None:
    """Such as urllib, wget and FFmpeg."""
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, box.server.address, "porch", TOKEN)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
    with opener.open(f"{box.server.address}/snapshot.jpg", timeout=WAIT_S) as answer:
        assert answer.read(2) == b"\xff\xd8"


def test_a_browser_is_not_offered_basic_because_its_dialog_would_cover_the_login(box: Box) -> None:
    for headers in ({"user-agent": BROWSER}, {"sec-fetch-mode": "cors", "sec-fetch-site": "same-origin"}):
        refused = box.client.get("/snapshot.jpg", headers=headers)
        assert refused.status_code == 401
        assert refused.headers.get_list("www-authenticate") == ["Bearer"]
    assert box.client.get("/", headers={"user-agent": BROWSER}).headers["location"] == "/login"
    program = box.client.get("/snapshot.jpg", headers={"user-agent": "HomeAssistant/2025.4.4 httpx/0.28.1"})
    assert 'Basic realm="edge-classifier", charset="UTF-8"' in program.headers.get_list("www-authenticate")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic ",
        f"Basic {TOKEN}",  # not base64
        "Basic cG9yY2g6d3Jvbmc",  # without its padding
        _basic(TOKEN.replace(":", "").encode()),  # no colon
        _basic(f"{TOKEN}:".encode()),  # as the user
        _basic(b"porch:"),
        _basic(b":"),
        _basic(b"\xff\xfe\x00"),
        _basic(f"porch:{TOKEN}".encode(), "Digest"),
        "Basic " + "A" * 60_000,
    ],
)
def test_what_is_no_token_is_never_taken_for_one(header: str) -> None:
    assert token_of(header.encode().decode("latin-1")) != TOKEN


def test_a_malformed_header_is_a_wrong_token(box: Box) -> None:
    refused = box.client.get("/api/status", headers={"authorization": "Basic *"})
    assert refused.status_code == 401
    assert refused.json()["status"] == 401
