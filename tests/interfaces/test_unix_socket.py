"""Tests the Unix socket for the command line: who gets an answer, whether a daemon runs, and bad input."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from edge.errors import RequestError, StateError
from edge.interfaces.unix_socket import MAX_REQUEST_BYTES, SOCKET, SocketServer, ask

WAIT_S = 30.0


def handle(name: str, document: dict[str, Any]) -> Mapping[str, Any]:
    if name == "refuse":
        raise RequestError("That cannot be done; ask for something else.")
    return {"asked": name, **document}


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Path]:
    """A socket in a directory whose name is longer than a socket's address may be."""
    path = tmp_path / ("deep" * 30) / SOCKET
    control = SocketServer(path, handle)
    control.start()
    yield path
    assert control.stop(WAIT_S)


def test_a_request_is_answered_and_a_refusal_is_its_sentence(door: Path) -> None:
    answer = ask(door, "use", {"name": "resnet18-int8-3fa9c1"})
    assert answer == {"status": "ok", "asked": "use", "name": "resnet18-int8-3fa9c1"}
    with pytest.raises(RequestError, match=r"^That cannot be done; ask for something else\.$"):
        ask(door, "refuse", {})


def test_other_users_are_refused(door: Path) -> None:
    assert door.stat().st_mode & 0o777 == 0o600


def test_without_a_daemon_there_is_no_answer(tmp_path: Path) -> None:
    assert ask(tmp_path / SOCKET, "use", {}) is None
    assert ask(tmp_path / "none" / SOCKET, "use", {}) is None


def test_a_place_where_no_daemon_can_be_is_reported_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    for place, message in (("file", "Not a directory"), ("loop", "symbolic links"), ("x" * 300, "name too long")):
        with pytest.raises(StateError, match=rf"cannot be reached at .*{message}"):
            ask(tmp_path / place / SOCKET, "use", {})


def test_a_second_daemon_leaves_the_socket_to_the_first(door: Path, caplog: pytest.LogCaptureFixture) -> None:
    second = SocketServer(door, lambda name, document: {"asked": "the second"})
    second.start()
    assert "is another daemon's" in caplog.text
    assert second.stop(WAIT_S)
    assert ask(door, "model", {}) == {"status": "ok", "asked": "model"}


def test_a_socket_that_a_killed_daemon_left_behind_is_no_daemon_and_blocks_nothing(tmp_path: Path) -> None:
    path = tmp_path / SOCKET
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.is_socket()
    assert ask(path, "use", {}) is None
    control = SocketServer(path, handle)
    control.start()
    assert ask(path, "use", {}) is not None
    assert control.stop(WAIT_S)


@pytest.mark.parametrize(
    "sent",
    [b"\n", b"nonsense\n", b"[]\n", b"{}\n", b"7\n", b"[" * 60_000 + b"\n", b"x" * 2 * MAX_REQUEST_BYTES, b""],
    ids=["empty", "no JSON", "a list", "no request", "a number", "deep", "endless", "nothing"],
)
def test_nonsense_is_refused_and_the_next_one_is_answered(door: Path, sent: bytes) -> None:
    directory = os.open(door.parent, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(WAIT_S)
            client.connect(f"/proc/self/fd/{directory}/{door.name}")
            try:
                client.sendall(sent)
                client.shutdown(socket.SHUT_WR)
                assert b'"error"' in client.recv(4096)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the server closed the connection
    finally:
        os.close(directory)
    assert ask(door, "use", {}) is not None


def test_a_time_without_file_descriptors_is_logged_once_and_then_requests_are_taken_again(tmp_path: Path) -> None:
    """In a separate process, so that the lack of descriptors affects nothing else."""
    script = f"""
import logging, resource, socket, threading
from pathlib import Path
from edge.interfaces.unix_socket import SocketServer, ask
logging.basicConfig(level="INFO", format="%(message)s")
logged = threading.Event()
class SetWhenLogged(logging.Handler):
    def emit(self, record):
        logged.set()
logging.getLogger("edge.interfaces.unix_socket").addHandler(SetWhenLogged())
path = Path({str(tmp_path)!r}) / "control.sock"
control = SocketServer(path, lambda name, document: {{"asked": name}})
control.start()
client = socket.socket(socket.AF_UNIX)
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
# The thread in accept may already have a descriptor; then this request is answered, and the next one fails.
client.connect(str(path))
client.sendall(b'{{"request": "first"}}\\n')
assert logged.wait({WAIT_S})
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
client.settimeout({WAIT_S})
assert b"first" in client.recv(100)
client.close()
assert ask(path, "again", {{}})["asked"] == "again"
assert control.stop({WAIT_S})
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "No request can be taken (Too many open files)" in ran.stderr
    assert "Requests can be taken again." in ran.stderr


def test_a_daemon_that_ends_in_the_middle_is_reported(tmp_path: Path) -> None:
    path = tmp_path / SOCKET
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.recv(100)
            connection.close()

        ending = threading.Thread(target=hang_up)
        ending.start()
        with pytest.raises(StateError, match=r"gave no answer \(it ended before\)"):
            ask(path, "use", {})
        ending.join(WAIT_S)


def test_a_place_where_no_socket_can_be_made_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    control = SocketServer(tmp_path / "file" / SOCKET, handle)
    control.start()
    assert control.stop(WAIT_S)
