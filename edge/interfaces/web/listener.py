"""The page's listening sockets: beyond a number of open connections they close new ones at once.

Each open connection is a file descriptor, and the camera, the broker and the log on disk need some too.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from edge.interfaces.web.refusals import Refusals

MAX_CONNECTIONS = 200
RESERVED_FILES = 128  # of the process's file descriptors, for everything but the page
MIN_CONNECTIONS = 16
# Connections that asyncio accepts before it returns to the open ones, which may make room meanwhile.
ACCEPTED_AT_ONCE = 8
QUEUE = 128  # connections that the kernel keeps until they are accepted
TAKEN_WITHIN_MS = 20_000  # a connection whose client acknowledges nothing of what was sent for so long is closed


class OpenConnections:
    """The open connections of all listening sockets of the page, and how many there may be.

    Args:
        refusals: counts and logs what is refused.
    """

    def __init__(self, refusals: Refusals) -> None:
        self.refusals = refusals
        self._open: set[socket.socket] = set()

    @property
    def most(self) -> int:
        """How many connections may be open at once."""
        files = os.sysconf("SC_OPEN_MAX")  # ulimit -n; -1: no limit
        return MAX_CONNECTIONS if files < 0 else max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, files - RESERVED_FILES))

    def add(self, connection: socket.socket) -> bool:
        """Count a new connection; False if it is one too many."""
        self._open = {one for one in self._open if one.fileno() >= 0}
        if len(self._open) >= self.most:
            self.crowded("new ones are closed")
            return False
        self._open.add(connection)
        return True

    def crowded(self, consequence: str) -> None:
        """Log that there are too many connections, and what follows."""
        self.refusals.crowd.happened(f"Too many connections to the page ({self.most} may be open): {consequence}.")


class BoundedListener(socket.socket):
    """A listening socket for asyncio.

    Args:
        family: AF_INET or AF_INET6.
        connections: shared by all listening sockets of the page.
    """

    def __init__(self, family: int, connections: OpenConnections) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TAKEN_WITHIN_MS)  # connections inherit it
        self._connections = connections

    def listen(self, backlog: int = QUEUE, /) -> None:
        """Listen. asyncio's backlog is not the kernel's here, but the number of connections that it accepts at once."""
        super().listen(QUEUE)

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection and its address.

        Raises:
            ConnectionAbortedError: it was one too many and is closed; asyncio goes on with the next.
        """
        connection, address = super().accept()
        if not self._connections.add(connection):
            connection.close()
            raise ConnectionAbortedError("too many connections")
        return connection, address
