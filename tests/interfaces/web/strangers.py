"""Clients that do what no client should, for some seconds; a process of its own, as real clients are.

Usage: strangers.py HOST PORT KIND SECONDS; prints the count of what each attempt led to as JSON. The kinds are the
functions below.
"""

import asyncio
import contextlib
import json
import resource
import socket
import struct
import sys
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

STATUS_LINE = 12  # "HTTP/1.1 200"
PHOTO = b'{"image": "%s"}'


class Attempt(NamedTuple):
    host: str
    port: int
    until: float

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port)

    async def ask(self, content: bytes) -> str:
        """Send one request on a connection of its own; the status of the answer."""
        reader, writer = await self.open()
        writer.write(content)
        answer = await reader.read(STATUS_LINE)
        writer.close()
        return answer[9:].decode() or "closed"

    async def hold(self, content: bytes) -> str:
        """Send something and keep the connection, until it is closed or the time is over."""
        reader, writer = await self.open()
        writer.write(content)
        with contextlib.suppress(asyncio.TimeoutError):
            answer = await asyncio.wait_for(reader.read(STATUS_LINE), max(0.1, self.until - time.monotonic()))
            return answer[9:].decode() or "closed"
        writer.close()
        return "held"


async def silent(attempt: Attempt) -> str:
    """Send nothing."""
    return await attempt.hold(b"")


async def half(attempt: Attempt) -> str:
    """Send half of the headers."""
    return await attempt.hold(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")


async def half_body(attempt: Attempt) -> str:
    """Send half of a login."""
    head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\ntoken="
    return await attempt.hold(head)


async def malformed(attempt: Attempt) -> str:
    """Send no HTTP."""
    return await attempt.ask(b"\x16\x03\x01\x02\x00\r\n\r\n")


async def bad_form(attempt: Attempt) -> str:
    """Send a form that is none."""
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    return await attempt.ask(head + b"Content-Length: 7\r\n\r\n--c\r\n\r\n")


async def upgrade(attempt: Attempt) -> str:
    """Ask for a WebSocket."""
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    return await attempt.ask(head + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")


async def reset(attempt: Attempt) -> str:
    """Ask for the events and reset the connection."""
    reader, writer = await attempt.open()
    writer.write(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = await reader.read(STATUS_LINE)
    linger = struct.pack("ii", 1, 0)  # close with RST
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.close()
    return answer[9:].decode()


async def half_login(attempt: Attempt) -> str:
    """Send half of a login and leave."""
    _, writer = await attempt.open()
    writer.write(b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\ntoken=")
    await writer.drain()
    writer.close()
    return "left"


async def guess(attempt: Attempt) -> str:
    """Send a wrong token as a bearer."""
    return await attempt.ask(
        b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a-token-that-is-wrong\r\n\r\n"
    )


async def values(attempt: Attempt) -> str:
    """Send JSON of a million values."""
    return await attempt.ask(posted(b"application/json", b"[" + b"0," * 1_000_000 + b"0]"))


async def bad_origin(attempt: Attempt) -> str:
    """Name an origin that is no URL."""
    return await attempt.ask(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[\r\n\r\n")


async def bombs(attempt: Attempt) -> str:
    """Send photos that take a decoder a minute, or a gigabyte."""
    from tests.photos.bombs import huge_tile, many_scans

    answers = [
        await attempt.ask(posted(b"application/json", PHOTO % b64encode(it()))) for it in (many_scans, huge_tile)
    ]
    return " and ".join(answers)


def posted(kind: bytes, body: bytes) -> bytes:
    """A request to /predict."""
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    return head % (kind, len(body)) + body


CLIENTS: dict[str, tuple[Callable[[Attempt], Awaitable[str]], int]] = {
    "silent": (silent, 1100),
    "half": (half, 220),
    "half_body": (half_body, 220),
    "malformed": (malformed, 20),
    "bad_form": (bad_form, 20),
    "upgrade": (upgrade, 20),
    "reset": (reset, 20),
    "values": (values, 4),
    "bad_origin": (bad_origin, 20),
    "bombs": (bombs, 4),
    "half_login": (half_login, 20),
    "guess": (guess, 8),
}


async def client(kind: Callable[[Attempt], Awaitable[str]], attempt: Attempt, seen: Counter[str]) -> None:
    """One after the other, until the time is over."""
    while time.monotonic() < attempt.until:
        try:
            seen[await kind(attempt)] += 1
        except OSError:
            seen["closed"] += 1
            await asyncio.sleep(0.1)


async def main(host: str, port: int, name: str, seconds: float) -> None:
    """All clients of one kind."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
    kind, clients = CLIENTS[name]
    attempt = Attempt(host, port, time.monotonic() + seconds)
    seen: Counter[str] = Counter()
    await asyncio.gather(*(client(kind, attempt, seen) for _ in range(clients)))
    print(json.dumps(seen))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])))
