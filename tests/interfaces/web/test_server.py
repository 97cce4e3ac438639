"""Tests that a failing page never stops the daemon, and that only permitted clients have access."""

import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from edge.interfaces.web import wrong_tokens
from edge.interfaces.web.access_control import BASIC
from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.server import WebServer
from edge.interfaces.web.token import COOKIE
from edge.settings.schema import WebSettings
from edge.status.recent import Recent
from edge.status.snapshot import Status
from tests.interfaces.web.box import MODEL, WAIT_S, has, photo, running

TOKEN = "correct-horse-battery-staple"
NO_MODEL: Any = (lambda: MODEL, lambda: ("", ()), lambda limit, until: [])


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    return file


def a_server(listen: str, token_file: str = "", **extra: Any) -> tuple[WebServer, Status]:
    status = Status()

    def classify(*arguments: object) -> Any:
        raise AssertionError("nobody asks")

    view = DaemonAccess(status.snapshot, Recent(), tuple, classify, classify, *NO_MODEL)  # type: ignore[arg-type]
    return WebServer(WebSettings(listen=listen, token_file=token_file), view, gauge=status.gauge, **extra), status


def test_a_port_that_is_taken_turns_the_page_off_and_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server, status = a_server(f"127.0.0.1:{port}")
        server.start()
        assert has(lambda: status.snapshot().gauges["web_error"])
        assert f"127.0.0.1:{port} cannot be used" in status.snapshot().gauges["web_error"]
        assert status.snapshot().gauges["web"] == "off"
        assert server.stop(WAIT_S)


@pytest.mark.parametrize(("content", "message"), [(None, "cannot be read"), ("short", "fewer than 16")])
def test_a_token_that_cannot_be_used_turns_the_page_off(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    server, status = a_server("127.0.0.1:0", str(file))
    server.start()
    assert has(lambda: message in status.snapshot().gauges["web_error"])
    assert not server.listening.is_set()
    assert server.stop(WAIT_S)


@pytest.mark.parametrize(
    ("token", "mode", "lines"),
    [
        (TOKEN, 0o600, []),
        (TOKEN, 0o604, ["Every user of this machine may read web.token_file {file}. The remedy: chmod o= {file}"]),
        (
            "passwordpassword",
            0o600,
            [
                "The token in web.token_file {file} can be guessed."
                " The remedy: Instead, make one with `openssl rand -hex 16`."
            ],
        ),
    ],
)
def test_a_token_that_protects_less_than_it_should_is_used_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, token: str, mode: int, lines: list[str]
) -> None:
    file = tmp_path / "token"
    file.write_text(token)
    file.chmod(mode)
    server, _ = a_server("127.0.0.1:0", str(file))
    server.start()
    assert server.listening.wait(WAIT_S)
    assert server.stop(WAIT_S)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [line.format(file=file) for line in lines]


def test_a_page_that_is_never_opened_loads_no_framework_and_still_stops() -> None:
    script = """
import sys
from tests.interfaces.web.test_server import WAIT_S, a_server
server, _ = a_server("127.0.0.1:0")
sys.modules.pop("fastapi", None), sys.modules.pop("uvicorn", None)  # the test's box has imported them
server.start()
assert server.listening.wait(WAIT_S)
assert server.stop(WAIT_S)
print([name for name in ("fastapi", "uvicorn") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_a_page_whose_framework_is_missing_is_off_before_the_first_visit() -> None:
    server, status = a_server("127.0.0.1:0", needs=("uvicorn", "a_framework_that_is_not_there"))
    server.start()
    gauges = status.snapshot().gauges
    assert gauges["web"] == "off"
    assert gauges["web_error"].startswith("The page is off because a_framework_that_is_not_there cannot be imported")
    assert not server.listening.is_set()
    assert server.stop(WAIT_S)


def test_a_page_whose_framework_is_broken_is_off_at_the_first_visit_and_says_so() -> None:
    script = """
import socket, sys
from urllib.parse import urlsplit
from tests.interfaces.web.test_server import WAIT_S, a_server, has
server, status = a_server("127.0.0.1:0")
sys.modules["edge.interfaces.web.app"] = None  # its import fails
server.start()
assert server.listening.wait(WAIT_S)
place = urlsplit(server.address)
with socket.create_connection((place.hostname, place.port)):
    assert has(lambda: status.snapshot().gauges["web_error"])
assert has(lambda: status.snapshot().gauges["web"] == "off")
assert server.stop(WAIT_S)
print(status.snapshot().gauges["web_error"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "The page is off because a part of it cannot be imported" in done.stdout


def test_a_page_that_is_off_is_not_there() -> None:
    status = Status()
    nobody: Any = None
    view = DaemonAccess(status.snapshot, Recent(), tuple, nobody, nobody, *NO_MODEL)
    server = WebServer(WebSettings(enabled=False), view, gauge=status.gauge)
    server.start()
    assert "web" not in [thread.name for thread in threading.enumerate()]
    assert server.stop(WAIT_S)


def test_a_stop_ends_streams_that_never_end() -> None:
    with running() as box, box.client.stream("GET", "/api/stream") as stream:
        lines = stream.iter_lines()
        next(lines)
        assert box.server.stop(5.0)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{box.server.address}/healthz")


def test_without_a_token_only_this_machine_by_its_own_name_may_ask() -> None:
    with running() as box:
        assert has(lambda: box.client.get("/readyz").status_code == 200)
        port = box.server.address.rpartition(":")[2]
        for host, status in (
            (f"localhost:{port}", 200),
            (f"127.0.0.1:{port}", 200),
            (f"[::1]:{port}", 200),
            (f"evil.example:{port}", 403),  # a name that was rebound to 127.0.0.1
            ("192.168.1.7", 403),
            ("", 403),
        ):
            assert box.client.get("/api/status", headers={"host": host}).status_code == status, host
            # A monitor may use any host name, because probes reveal nothing.
            for probe in ("/healthz", "/readyz"):
                assert box.client.get(probe, headers={"host": host}).status_code == 200, host


def test_another_sites_page_may_not_send_photos() -> None:
    with running() as box:
        files = {"file": photo(1)}
        for headers, status in (
            ({"origin": "https://evil.example"}, 403),
            ({"sec-fetch-site": "cross-site"}, 403),
            ({"origin": "null"}, 403),
            ({"origin": "http://["}, 403),  # not a URL
            ({"origin": box.server.address, "sec-fetch-site": "same-origin"}, 200),
        ):
            assert box.client.post("/predict", files=files, headers=headers).status_code == status, headers


def test_a_request_of_another_site_is_no_wrong_token(
    token_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wrong_tokens, "DELAY_S", 2 * WAIT_S)
    headers = {"authorization": f"Bearer {token_file.read_text().strip()}", "origin": "https://other.example"}
    with running(token_file=token_file) as box:
        assert box.client.post("/predict", files={"file": photo(1)}, headers=headers).status_code == 403
    assert not any("wrong token" in line for line in caplog.messages)


def test_a_host_that_is_no_name_is_no_fault_of_the_daemon(caplog: pytest.LogCaptureFixture) -> None:
    with running() as box:
        assert box.client.post("/healthz", headers={"host": "[a:b]"}).status_code == 405
        assert box.client.get("/nothing", headers={"host": "[a:b]"}).status_code == 403
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_with_a_token_nothing_but_probes_and_the_login_is_open(token_file: Path) -> None:
    with running(token_file=token_file) as box:
        for path in (
            "/api/latest", "/api/events", "/api/status", "/api/model", "/api/history", "/api/stream",
            "/snapshot.jpg", "/stream.mjpg", "/metrics", "/openapi.json", "/static/page.js", "/nothing",
        ):  # fmt: skip
            refused = box.client.get(path)
            assert refused.status_code == 401, path
            assert refused.headers.get_list("www-authenticate") == ["Bearer", BASIC]
        assert box.client.post("/predict", files={"file": photo(1)}).status_code == 401
        for path in ("/healthz", "/readyz", "/login", "/static/page.css"):
            assert box.client.get(path).status_code == 200, path
        home = box.client.get("/")
        assert (home.status_code, home.headers["location"]) == (303, "/login")


def test_a_bearer_token_lets_programs_in_and_a_wrong_one_does_not(token_file: Path) -> None:
    with running(token_file=token_file) as box:
        for header, status in (
            (f"Bearer {TOKEN}", 200),
            (f"bearer {TOKEN}", 200),
            (f"Bearer {TOKEN}x", 401),
            (f"Basic {TOKEN}", 401),
            ("Bearer", 401),
        ):
            assert box.client.get("/api/status", headers={"authorization": header}).status_code == status, header
        answer = box.client.post("/predict", files={"file": photo(1)}, headers={"authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200


def test_a_person_logs_in_once_and_the_cookie_is_no_token(token_file: Path) -> None:
    with running(token_file=token_file) as box:
        wrong = box.client.post("/login", data={"token": "wrong"})
        assert wrong.status_code == 401
        assert "set-cookie" not in wrong.headers
        right = box.client.post("/login", data={"token": f" {TOKEN} "})
        assert right.status_code == 303
        cookie = right.headers["set-cookie"]
        assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/"))
        assert TOKEN not in cookie
        assert box.client.get("/").status_code == 200
        box.client.cookies.clear()
        box.client.cookies.set(COOKIE, TOKEN)
        assert box.client.get("/api/status").status_code == 401


def test_what_uvicorn_refuses_before_the_app_is_plain_text() -> None:
    """docs/web.md names this error, which is no problem document."""
    with running() as box:
        place = urlsplit(box.server.address)
        with socket.create_connection((place.hostname, place.port), WAIT_S) as connection:
            connection.sendall(b"nonsense\r\nHost: localhost\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"content-type: text/plain" in answer


def test_a_file_is_sent_whole_or_not_at_all(token_file: Path) -> None:
    """The ranges of one long header take Starlette before 0.49.1 seconds, and this file needs no token."""
    with running(token_file=token_file) as box:
        whole = box.client.get("/static/page.css").content
        for ranges in ("0-8", ",".join(f"{2 * n}-{2 * n}" for n in range(100))):
            part = box.client.get("/static/page.css", headers={"range": f"bytes={ranges}"})
            assert (part.status_code, part.content) == (200, whole)
    with running() as box:
        for name in ("%00", "page%00.css", "a" * 300):
            assert box.client.get(f"/static/{name}").status_code == 404


def test_every_answer_carries_a_policy_that_allows_nothing_from_elsewhere() -> None:
    with running() as box:
        for path in ("/", "/api/status", "/nothing"):
            headers = box.client.get(path).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
        page = box.client.get("/")
        script = box.client.get("/static/page.js")
        for path, first in (("/", page), ("/static/page.js", script)):
            assert first.headers["cache-control"] == "no-cache"
            known = box.client.get(path, headers={"if-none-match": first.headers["etag"]})
            assert known.status_code == 304
        assert "javascript" in script.headers["content-type"]
