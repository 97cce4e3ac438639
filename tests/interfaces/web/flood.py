"""Fifty clients that hammer /predict as fast as they are answered; a process of its own, as real clients are.

Usage: flood.py HOST PORT CLIENTS SECONDS [PHOTOS]; prints the count of each status as JSON. PHOTOS is a folder of
JPEG files; without one the photos are noise.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np


def photo(number: int, photos: list[bytes]) -> bytes:
    """A JPEG file that no cache has seen."""
    if photos:
        return photos[number % len(photos)] + number.to_bytes(8, "big")  # decoders ignore bytes after the end
    pixels = np.random.default_rng(number).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    return bytes(cv2.imencode(".jpg", pixels)[1])


def request(content: bytes) -> bytes:
    """One upload."""
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n' + content + b"\r\n--b--\r\n"
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" + body


async def client(host: str, port: int, number: int, until: float, statuses: Counter[str], photos: list[bytes]) -> None:
    """One client on one connection."""
    reader, writer = await asyncio.open_connection(host, port)
    sent = 0
    while time.monotonic() < until:
        writer.write(request(photo(number * 100_003 + sent, photos)))
        sent += 1
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
        status = head.split()[1]
        statuses[status] += 1
        if status == "429":
            assert "retry-after: " in head
    writer.close()


async def main(host: str, port: int, clients: int, seconds: float, *folders: str) -> None:
    """All of them."""
    photos = [path.read_bytes() for folder in folders for path in sorted(Path(folder).glob("*.[jJ][pP]*[gG]"))]
    statuses: Counter[str] = Counter()
    until = time.monotonic() + seconds
    await asyncio.gather(*(client(host, port, n, until, statuses, photos) for n in range(clients)))
    print(json.dumps(statuses))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), *sys.argv[5:]))
