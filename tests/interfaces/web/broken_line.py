"""A TCP proxy between a browser and the box that loses, holds back or slows down answers, as Wi-Fi and proxies do."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PIECE_S = 0.2  # between two bytes of a slow answer


@dataclass
class Line:
    """What happens to the answers; may be changed at any time.

    Args:
        port: of the box.
    """

    port: int
    address: str = ""
    cut: dict[str, int] = field(default_factory=dict)  # path → bytes of the answer, after which it is cut
    silent: set[str] = field(default_factory=set)  # paths whose answers do not come any more
    slow: set[str] = field(default_factory=set)  # paths whose answers come byte by byte
    down: bool = False  # every connection is closed, and new ones too
    asked: list[str] = field(default_factory=list)  # the paths, in order

    def carry(self, browser: socket.socket) -> None:
        """Carry one connection in both directions, and close it."""
        with browser, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)) as box:
            path = [""]
            answers = threading.Thread(target=self._answers, args=(box, browser, path), daemon=True)
            answers.start()
            with contextlib.suppress(OSError):
                while not self.down and (piece := browser.recv(65536)):
                    if asked := re.match(rb"[A-Z]+ (\S+) HTTP/1.1\r\n", piece):
                        path[:] = [asked[1].decode(), ""]  # the second: another answer begins
                        self.asked.append(path[0])
                    box.sendall(piece)
            _close(box)
            answers.join()

    def _answers(self, box: socket.socket, browser: socket.socket, path: list[str]) -> None:
        sent = 0
        with contextlib.suppress(OSError):
            while not self.down and (piece := box.recv(65536)):
                if len(path) == 2:
                    sent = 0
                    path.pop()
                left = self.cut.get(path[0], sent + len(piece)) - sent
                while path[0] in self.silent and not self.down:
                    time.sleep(PIECE_S)
                if path[0] in self.slow:
                    for byte in piece:
                        browser.sendall(bytes([byte]))
                        time.sleep(PIECE_S if path[0] in self.slow else 0)
                else:
                    browser.sendall(piece[:left])
                sent += len(piece)
                if left < len(piece):
                    break
        _close(browser)


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def to(address: str) -> Iterator[Line]:
    """A line to the box at this address; the browser opens `Line.address`."""
    line = Line(int(urlsplit(address).port or 0))
    with socket.create_server(("127.0.0.1", 0)) as server:
        line.address = f"http://127.0.0.1:{server.getsockname()[1]}"
        carried: list[tuple[socket.socket, threading.Thread]] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    browser, _ = server.accept()
                    if line.down:
                        browser.close()
                        continue
                    carrier = threading.Thread(target=line.carry, args=(browser,), daemon=True)
                    carried.append((browser, carrier))
                    carrier.start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield line
        finally:
            line.down = True
            _close(server)
            thread.join()
            for browser, carrier in carried:
                _close(browser)
                carrier.join()
