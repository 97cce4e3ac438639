"""Tests that the page listens on every address that `web.listen` means, and waits for one that is not there yet."""

import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from edge.interfaces.web import addresses, server
from edge.interfaces.web.listener import OpenConnections
from edge.interfaces.web.refusals import Refusals
from edge.settings.schema import WebSettings
from tests.interfaces.web.box import WAIT_S, has
from tests.interfaces.web.test_server import a_server

LATER = "198.51.100.77"  # RFC 5737: of no network


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "RETRY_S", 0.05)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text("d4a7b9c0e1f26385")
    return file


@pytest.fixture
def bring_up() -> Iterator[list[str]]:
    """The command that gives this machine the address LATER."""
    command = ["ip", "addr", "add", f"{LATER}/32", "dev", "lo"]
    take_away = [*command[:2], "del", *command[3:]]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"an address of this machine is added by root: {error}")
    subprocess.run(take_away, check=True)
    yield command
    subprocess.run(take_away, check=False, capture_output=True)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_port_that_is_freed_later_is_taken_then_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        page, status = a_server(f"127.0.0.1:{port}")
        page.start()
        assert has(lambda: "in use" in str(status.snapshot().gauges["web_error"]))
        assert not page.listening.wait(0.5), "tried again several times meanwhile"
    assert page.listening.wait(WAIT_S)
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    gauges = status.snapshot().gauges
    assert (gauges["web"], gauges["web_error"]) == (f"http://127.0.0.1:{port}", "")
    assert page.stop(WAIT_S)
    assert len(errors(caplog)) == 1


def test_an_address_that_comes_after_the_start_is_served_then(bring_up: list[str], token: Path) -> None:
    page, status = a_server(f"{LATER}:0", str(token))
    page.start()
    assert has(lambda: "connect this machine" in str(status.snapshot().gauges["web_error"]))
    subprocess.run(bring_up, check=True)
    assert page.listening.wait(WAIT_S)
    assert httpx.get(f"{page.address}/healthz").status_code == 200
    assert page.stop(WAIT_S)


def test_of_a_name_with_two_addresses_the_one_that_comes_later_is_served_then(
    monkeypatch: pytest.MonkeyPatch, bring_up: list[str]
) -> None:
    monkeypatch.setattr(addresses, "MEANS", {"localhost": ("127.0.0.1", LATER, "127.0.0.1")})
    page, _ = a_server("localhost:0")
    page.start()
    assert page.listening.wait(WAIT_S)
    port = page.address.rpartition(":")[2]
    assert httpx.get(f"{page.address}/healthz").status_code == 200
    subprocess.run(bring_up, check=True)
    assert httpx.get(f"http://{LATER}:{port}/healthz").status_code == 200
    assert page.stop(WAIT_S)


@pytest.mark.parametrize("listen", ["localhost:0", "LocalHost:0"])
def test_localhost_is_both_addresses_under_one_port_and_one_bound(
    listen: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    page, _ = a_server(listen)
    page.start()
    assert page.listening.wait(WAIT_S)
    port = page.address.rpartition(":")[2]
    for host in ("127.0.0.1", "[::1]", "localhost"):
        assert httpx.get(f"http://{host}:{port}/healthz").status_code == 200, host
    assert f"The page is at http://127.0.0.1:{port} and http://[::1]:{port}" in caplog.text
    assert page.stop(WAIT_S)


def test_all_ipv6_addresses_include_those_of_ipv4() -> None:
    opened = addresses.listen_on("::", 0, OpenConnections(Refusals()))
    ports = {one.getsockname()[1] for one in opened}
    assert len(ports) == 1
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, *ports), WAIT_S).close()
    for one in opened:
        one.close()


@pytest.mark.parametrize("host", ["localhost", "::", "0.0.0.0"])
def test_a_machine_without_ipv6_serves_ipv4(host: str) -> None:
    script = f"""
import socket
from edge.interfaces.web import addresses, listener
from edge.interfaces.web.listener import OpenConnections
from edge.interfaces.web.refusals import Refusals
real = socket.socket.__init__
def refuses(self, family=-1, *arguments):
    if family == socket.AF_INET6:
        raise OSError(97, "Address family not supported by protocol")  # as with ipv6.disable=1
    real(self, family, *arguments)
socket.socket.__init__ = refuses
print([one.getsockname()[0] for one in addresses.listen_on({host!r}, 0, OpenConnections(Refusals()))])
"""
    command = [sys.executable, "-c", script]
    listening = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert listening == ("['127.0.0.1']" if host == "localhost" else "['0.0.0.0']")


def test_one_of_two_addresses_that_is_in_use_is_waited_for() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            addresses.listen_on("localhost", port, OpenConnections(Refusals()))
        # Nothing of the attempt is left.
        socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize(
    ("listen", "sentence"),
    [
        ("does-not-exist.invalid:5000", "correct web.listen and restart"),
        (f"a..{'b' * 70}:5000", "correct web.listen and restart"),
        ("[fe80::1]:5000", "name the interface of a link-local address, such as [fe80::1%eth0]:5000"),
        (f"{LATER}:5000", "connect this machine to that network"),
    ],
)
def test_an_address_that_is_wrong_for_ever_is_one_line_and_a_stop_is_not_held_up(
    listen: str, sentence: str, token: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page, status = a_server(listen, str(token))
    page.start()
    assert has(lambda: sentence in str(status.snapshot().gauges["web_error"]))
    assert not page.listening.wait(0.3)
    assert page.stop(WAIT_S)
    assert len(errors(caplog)) == 1
    assert status.snapshot().gauges["web"] == "off"


def test_a_name_server_that_does_not_answer_is_not_a_wrong_name(monkeypatch: pytest.MonkeyPatch, token: Path) -> None:
    def unanswered(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unanswered)
    page, status = a_server("box.example:5000", str(token))
    page.start()
    assert has(lambda: "check this machine's name servers" in str(status.snapshot().gauges["web_error"]))
    assert page.stop(WAIT_S)


def test_an_ipv4_address_may_be_written_as_one_of_ipv6() -> None:
    (opened,) = addresses.listen_on("::ffff:127.0.0.1", 0, OpenConnections(Refusals()))
    socket.create_connection(("127.0.0.1", opened.getsockname()[1]), WAIT_S).close()
    opened.close()


@pytest.mark.parametrize("address", ["255.255.255.255", "224.0.0.1", "[ff02::1]"])
def test_an_address_of_many_machines_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="must be an address of this machine"):
        WebSettings(listen=f"{address}:5000", token_file="token")


def test_a_token_that_comes_after_the_start_opens_the_page(token: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = token.read_text()
    token.unlink()
    page, status = a_server("127.0.0.1:0", str(token))
    page.start()
    assert has(lambda: "cannot be read" in str(status.snapshot().gauges["web_error"]))
    token.touch(0o600)
    assert has(lambda: "fewer than 16" in str(status.snapshot().gauges["web_error"]))
    token.write_text(kept)
    assert page.listening.wait(WAIT_S)
    assert httpx.get(f"{page.address}/api/status").status_code == 401
    assert httpx.get(f"{page.address}/api/status", headers={"authorization": f"Bearer {kept}"}).status_code == 200
    assert page.stop(WAIT_S)
    assert len(errors(caplog)) == 2
