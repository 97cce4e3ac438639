"""Tests that the page works through the nginx of deploy/nginx: login, server-sent events, photos and their limits."""

import re
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from edge.commands.try_broker import running as running_program
from edge.interfaces.web.token import COOKIE
from tests.broker import Certificates, eventually, free_port
from tests.interfaces.web.box import Box, photo, running

EXAMPLE = Path(__file__).parents[2] / "deploy" / "nginx" / "edge-classifier.conf"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
TOKEN = "correct-horse-battery-staple"
BEARER = {"Authorization": f"Bearer {TOKEN}"}

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A box whose page requires a token."""
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN + "\n")
    with running(token_file=token_file) as started:
        yield started


@pytest.fixture
def browser(box: Box, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of nginx, which runs the example with free ports and certificates of this machine."""
    assert NGINX is not None
    Certificates(tmp_path).make()
    Certificates(tmp_path).issue("porch")
    plain, secure = free_port(), free_port()
    text = EXAMPLE.read_text(encoding="utf-8").replace("/etc/nginx/certs/", f"{tmp_path}/")
    text = re.sub(r"(?m)^ *listen \[::\].*\n", "", text)  # a container may have no IPv6
    text = text.replace("listen 80", f"listen 127.0.0.1:{plain}").replace("listen 443", f"listen 127.0.0.1:{secure}")
    text = text.replace("http://127.0.0.1:5000", str(box.client.base_url).rstrip("/"))
    paths = " ".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config, log = tmp_path / "nginx.conf", tmp_path / "nginx.log"
    config.write_text(
        f"daemon off; user root; pid {tmp_path}/nginx.pid; error_log stderr;\n"
        f"events {{}}\nhttp {{ access_log off; {paths}\n{text}}}\n"
    )
    with running_program([NGINX, "-c", str(config)], log) as process:
        context = ssl.create_default_context(cafile=str(Certificates(tmp_path).authority))
        with httpx.Client(base_url=f"https://127.0.0.1:{secure}", verify=context, timeout=60) as client:
            eventually(lambda: process.poll() is not None or answers(client), "nginx answers")
            assert process.poll() is None, log.read_text()
            client.headers["X-Plain"] = f"http://127.0.0.1:{plain}"  # where the test of the redirection finds it
            yield client


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.ConnectError:
        return False


def test_the_token_is_required_though_nginx_is_on_the_same_machine(browser: httpx.Client) -> None:
    assert browser.get("/api/status").status_code == 401
    assert browser.get("/api/status", headers=BEARER).status_code == 200


def test_a_person_logs_in_and_the_cookie_is_for_tls_alone(browser: httpx.Client) -> None:
    origin = {"Origin": str(browser.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    answer = browser.post("/login", data={"token": TOKEN}, headers=origin)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert COOKIE in cookie
    assert "; Secure" in cookie
    assert "<html" in browser.get("/").text
    assert browser.get("/").headers["strict-transport-security"]


def test_tokens_cannot_be_tried_by_the_hundred(browser: httpx.Client) -> None:
    codes = [browser.get("/login").status_code for _ in range(30)]
    assert codes[0] == 200
    assert 503 in codes


def test_another_sites_form_is_refused(browser: httpx.Client) -> None:
    answer = browser.post("/login", data={"token": TOKEN}, headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == 403


def test_events_come_while_the_stream_goes_on(browser: httpx.Client, box: Box) -> None:
    with browser.stream("GET", "/api/stream", headers=BEARER) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert any(line.startswith("event: top") for line in lines)
        box.camera.shows = 5
        assert any("class 5" in line for line in lines)


def test_a_photo_is_answered(browser: httpx.Client) -> None:
    answer = browser.post("/predict", files={"file": photo(3)}, headers=BEARER)
    assert answer.status_code == 200, answer.text
    assert answer.json()["top"][0]["label"] == "class 3"


def test_photos_as_large_as_the_daemon_takes_pass_and_no_larger_ones(browser: httpx.Client) -> None:
    passes = browser.post("/predict", files={"file": bytes(11 << 20)}, headers=BEARER)
    assert passes.headers["content-type"].startswith("application/problem+json")  # the daemon's: it is no photo
    assert passes.status_code != 413
    assert browser.post("/predict", content=bytes((12 << 20) + 1), headers=BEARER).status_code == 413


def test_plain_http_is_sent_to_tls(browser: httpx.Client) -> None:
    answer = httpx.get(browser.headers["X-Plain"] + "/api/status")
    assert answer.status_code == 308
    assert answer.headers["location"].startswith("https://")
