"""Opens a TCP connection to a host with several addresses: IPv6 and IPv4 in turn, without waiting for a dead one.

This is RFC 8305 ("happy eyeballs"). `socket.create_connection` waits the whole time limit for each dead address.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections.abc import Callable
from itertools import chain, zip_longest
from typing import Any

NEXT_AFTER_S = 0.25  # without an answer from one address the next is tried as well
_Address = tuple[Any, ...]  # as getaddrinfo returns it


def open_tcp(host: str, port: int, within_s: float, *, wanted: Callable[[], bool] = lambda: True) -> socket.socket:
    """The first connection that one of the host's addresses accepts; the others are closed.

    Args:
        within_s: the time limit of each address; looking up the name is not part of it.
        wanted: asked between two steps; if it returns False, the attempt ends.

    Raises:
        OSError: no address accepts; the error is that of the last one.
    """
    waiting = _in_turn(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    last_error = _timeout()
    next_at = time.monotonic()
    with selectors.DefaultSelector() as trying:
        try:
            while waiting or trying.get_map():
                if not wanted():
                    raise ConnectionAbortedError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))
                now = time.monotonic()
                if waiting and (now >= next_at or not trying.get_map()):
                    next_at = now + NEXT_AFTER_S
                    try:
                        started = _start(waiting.pop(0))
                    except OSError as error:  # such as a family that this machine has no route for
                        last_error = error
                        continue
                    trying.register(started, selectors.EVENT_WRITE, now + within_s)
                for key, _ in trying.select(NEXT_AFTER_S):
                    tried = _unregister(trying, key)
                    if not (code := tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                        tried.settimeout(within_s)
                        return tried
                    last_error = OSError(code, os.strerror(code))
                    tried.close()
                    next_at = 0.0  # no reason to wait for it any longer
                for key in [key for key in trying.get_map().values() if time.monotonic() >= key.data]:
                    _unregister(trying, key).close()
                    last_error = _timeout()
        finally:
            for key in list(trying.get_map().values()):
                _unregister(trying, key).close()
    raise last_error


def _in_turn(found: list[_Address]) -> list[_Address]:
    """The addresses in the resolver's order, but with the two families in turn."""
    first = [one for one in found if one[0] == found[0][0]]
    second = [one for one in found if one[0] != found[0][0]]
    return [one for one in chain.from_iterable(zip_longest(first, second)) if one is not None]


def _start(address: _Address) -> socket.socket:
    family, kind, protocol, _, where = address
    started = socket.socket(family, kind, protocol)
    started.setblocking(False)
    if (code := started.connect_ex(where)) not in (0, errno.EINPROGRESS):
        started.close()
        raise OSError(code, os.strerror(code))
    return started


def _timeout() -> OSError:
    return TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def _unregister(trying: selectors.BaseSelector, key: selectors.SelectorKey) -> socket.socket:
    trying.unregister(key.fileobj)
    assert isinstance(key.fileobj, socket.socket)
    return key.fileobj
