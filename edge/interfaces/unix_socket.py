"""Requests from commands on the same machine: a Unix socket with one request for each connection, as a line of JSON.

`SocketServer` is the daemon's side, `ask` the command's. It is a socket because a signal can neither name a bundle nor
return an answer, and a file cannot show whether the daemon is running.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.errors import RequestError, StateError
from edge.repeating_fault import RepeatingFault

logger = logging.getLogger("edge.interfaces.unix_socket")

SOCKET = "control.sock"  # in the state directory
MAX_REQUEST_BYTES = 64 << 10
READ_WITHIN_S = 5.0
RETRY_S = 1.0  # after `accept` failed for lack of file descriptors or memory
ANSWER_WITHIN_S = 300.0  # loading a model takes most of a minute on a Zero 2 W


class SocketServer:
    """Owns the thread "unix-socket", which serves one request at a time.

    Args:
        path: the socket; only its owner and root can connect.
        handle: takes a request's name and fields, returns the fields of the answer; raises RequestError.
    """

    def __init__(self, path: Path, handle: Callable[[str, dict[str, Any]], Mapping[str, Any]]) -> None:
        self._path, self._handle = path, handle
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._stopping = threading.Event()
        self._accepting = RepeatingFault(logger)
        self._thread = threading.Thread(target=self._run, name="unix-socket", daemon=True)

    def start(self) -> None:
        """Listen. If the socket cannot be made, log a warning: the daemon works without it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if _is_served(self._path):
                logger.warning(
                    "%s is another daemon's, which `edge-classifier models` reaches in place of this one; give each"
                    " daemon a fallback.path in a directory of its own.",
                    self._path,
                )
                return
            self._path.unlink(missing_ok=True)  # left by an earlier daemon
            with _address(self._path) as address:
                self._server.bind(address)
            self._path.chmod(0o600)  # before `listen`, so that no other user can connect
            self._server.listen(4)
        except OSError as error:
            logger.warning("%s cannot be made (%s); `edge-classifier models` reaches no daemon.", self._path, error)
            return
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """End the thread; False if it has not ended in time."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._server.shutdown(socket.SHUT_RDWR)  # wakes accept
            self._thread.join(timeout_s)
        self._server.close()
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError as error:
                if self._stopping.is_set():
                    return
                self._accepting.happened(f"No request can be taken ({error.strerror or error}); trying again.")
                self._stopping.wait(RETRY_S)
                continue
            self._accepting.over("Requests can be taken again.")
            with connection:
                connection.settimeout(READ_WITHIN_S)
                try:
                    answer = self._answer(_read_line(connection))
                    connection.sendall(json.dumps(answer).encode() + b"\n")
                except OSError as error:
                    logger.debug("A client has closed its connection or sends nothing (%s).", error)

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            document = json.loads(line)
            name = document.pop("request")
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            return {"status": "error", "error": "A request is an object with the key request."}
        try:
            return {"status": "ok", **self._handle(str(name), document)}
        except RequestError as error:
            return {"status": "error", "error": str(error)}


def _is_served(path: Path) -> bool:
    """Whether a process listens at the socket `path`; one that a killed daemon left behind refuses the connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            with _address(path) as address:
                client.connect(address)
        except BlockingIOError:  # others wait to be accepted
            return True
        except OSError:
            return False
    return True


def ask(path: Path, name: str, document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Send a request to the daemon at the socket `path`; returns its answer, or None if no daemon runs.

    Raises:
        RequestError: the daemon refuses; the message is its reason.
        StateError: this user has no permission, or the daemon does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(ANSWER_WITHIN_S)
        try:
            with _address(path) as address:
                client.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError as error:
            raise StateError("Only root and the daemon's own user may send it requests; use sudo.") from error
        except OSError as error:
            reason = error.strerror or error
            raise StateError(f"The daemon cannot be reached at {path} ({reason}); look at fallback.path.") from error
        try:
            client.sendall(json.dumps({"request": name, **document}).encode() + b"\n")
            line = _read_line(client)
            if not line:
                raise ConnectionResetError("it ended before")
            answer = json.loads(line)
        except (OSError, ValueError) as error:
            raise StateError(
                f"The daemon gave no answer ({error}); look at its log: journalctl -u edge-classifier."
            ) from error
    if answer.get("status") != "ok":
        raise RequestError(str(answer.get("error")))
    return dict(answer)


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """The socket's address through /proc/self/fd: an address has at most 107 bytes, and a path may be longer."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _read_line(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as lines:
        return lines.readline(MAX_REQUEST_BYTES)
