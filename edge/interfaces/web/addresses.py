"""Listens on every address that `web.listen` means."""

from __future__ import annotations

import errno
import logging
import socket
from contextlib import ExitStack
from typing import Any

from edge.interfaces.web.listener import BoundedListener, OpenConnections

logger = logging.getLogger("edge.interfaces.web")
# localhost is both, whatever /etc/hosts says: some programs try only one of them. `::` is every
# address, on machines without IPv6 too.
MEANS = {"localhost": ("127.0.0.1", "::1"), "::": ("::", "0.0.0.0")}
# This machine does not have the address (yet), or no IPv6 at all.
NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
REMEDIES = {
    errno.EADDRINUSE: "end what listens there, or change web.listen and restart",
    errno.EADDRNOTAVAIL: "connect this machine to that network, or change web.listen and restart",
    errno.EINVAL: "name the interface of a link-local address, such as [fe80::1%eth0]:5000, in web.listen and restart",
    errno.EACCES: "ports below 1024 are for root; take a higher one in web.listen and restart",
    socket.EAI_AGAIN: "check this machine's name servers, or give the address itself in web.listen and restart",
}
IP_FREEBIND = 15  # of linux/in.h; the socket module does not name it


def listen_on(host: str, port: int, connections: OpenConnections) -> list[BoundedListener]:
    """A listening socket for each address of `host`.

    Of several addresses one may be missing, such as that of a network which is not connected. The page gets a socket
    there too, and can be reached there once this machine has the address.

    Args:
        host: an address, or a name with one or more.
        port: 0 takes a free one, the same for all addresses.
        connections: of the page.

    Raises:
        OSError: no address can be used, or one is in use by another program.
        UnicodeError: `host` cannot be a name.
    """
    listeners: list[BoundedListener] = []
    missing: list[tuple[socket.AddressFamily, Any]] = []
    with ExitStack() as unless_done:
        for family, address in _addresses(host, port):
            try:
                listener = _listener(family, _at(address, listeners), connections)
            except OSError as error:
                if error.errno not in NOT_HERE:
                    raise
                reason = error
                missing.append((family, address))
            else:
                listeners.append(unless_done.enter_context(listener))
        if not listeners:
            raise reason
        for family, address in missing:
            place = address[0]
            try:
                later = _listener(family, _at(address, listeners), connections, freebind=True)
            except OSError as error:
                logger.info("The page is not at %s (%s).", place, error.strerror)
            else:
                listeners.append(unless_done.enter_context(later))
                logger.info("The page will be at %s once this machine has that address.", place)
        unless_done.pop_all()
    return listeners


def why_not(listen: str, error: OSError | UnicodeError) -> str:
    """Why `listen_on` failed and what to do; the end of a sentence, without a full stop."""
    remedy = REMEDIES.get(getattr(error, "errno", None) or 0, "correct web.listen and restart")
    return f"{listen} cannot be used ({getattr(error, 'strerror', None) or error}): {remedy}"


def url_of(listener: BoundedListener) -> str:
    """The URL of the page at one of its addresses."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    host = host.removeprefix("::ffff:") if "." in host else host  # ::ffff:192.0.2.1 is an IPv4 address
    found = [
        (family, address)
        for name in MEANS.get(host, (host,))
        for family, _, _, _, address in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    ]
    return list(dict.fromkeys(found))  # /etc/hosts may have a line twice


def _at(address: Any, others: list[BoundedListener]) -> Any:
    """The address with the port that the others have."""
    return (address[0], others[0].getsockname()[1], *address[2:]) if others else address


def _listener(
    family: socket.AddressFamily,
    address: Any,
    connections: OpenConnections,
    *,
    freebind: bool = False,
) -> BoundedListener:
    listener = BoundedListener(family, connections)
    try:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # 0.0.0.0 has a socket of its own
        if freebind:
            listener.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        listener.bind(address)
        # Connections now queue while the app is imported, instead of being refused.
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener
