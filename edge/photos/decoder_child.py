"""The process in which `decoder.py` has photos decoded: it takes one after the other from the socket on its stdin.

Request: `{"name": …, "memory_bytes": <the most that it may take>, "reduce": <whether a JPEG may be reduced to fit into
that>}` with the photo's bytes as a file in memory. Answer: `{"shape": […]}` with the pixels as another file in memory,
`{"refused": <sentence>, "as": <one of REFUSALS>}`, or `{"failed": <a fault of the program>}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any, BinaryIO

import cv2

from edge.errors import PhotoError, PhotoMemoryError, PhotoTooLargeError
from edge.frames import Pixels
from edge.photos.decode import decode_photo, fitting_reduction, needs_more_memory

REFUSALS = {error.__name__: error for error in (PhotoError, PhotoTooLargeError, PhotoMemoryError)}
MAX_MESSAGE_BYTES = 16 << 10  # of a request or an answer; photos and pixels are in files
MAX_GROWTH_BYTES = 64 << 20  # beyond it something leaks, and less than the promised memory would be left for a photo


def main() -> None:
    """Serve until the socket is closed, or no photo has come for a while; arguments as of `PhotoDecoder`."""
    memory_bytes, cpu_s, idle_s = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    # systemd sends SIGTERM to all processes of the unit; this one ends with the daemon.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(1)
    address_space = _address_space_bytes()
    resource.setrlimit(resource.RLIMIT_AS, (address_space + memory_bytes,) * 2)
    with contextlib.suppress(OSError):  # where memory runs out all the same, the kernel should end this process first
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    connection = socket.socket(fileno=sys.stdin.fileno())
    connection.settimeout(idle_s)
    # libpng, libjpeg and libtiff write warnings about a photo to stderr, one for each fault of each photo. Until here
    # stderr is the daemon's, and shows why a start fails.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    connection.send(b"ready")
    # A TimeoutError means that no photo has come for a while, any other OSError that the daemon has ended.
    with contextlib.suppress(OSError):
        while _address_space_bytes() < address_space + MAX_GROWTH_BYTES:
            if not _serve(connection, cpu_s, address_space):
                return


def _serve(connection: socket.socket, cpu_s: float, address_space: int) -> bool:
    """Answer one request; False if the daemon has ended. `address_space`: its bytes before the first photo."""
    request, files, _, _ = socket.recv_fds(connection, MAX_MESSAGE_BYTES, 1)
    if not request:
        return False
    # When the timer expires, SIGPROF ends this process. RLIMIT_CPU does the same, but in whole seconds from the
    # process's start.
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    asked = json.loads(request)
    # The soft limit may be raised again for the next photo, up to the hard one.
    most, hard = address_space + asked["memory_bytes"], resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (min(most, hard), hard))
    with os.fdopen(files[0], "rb") as file:
        file.seek(0)
        answer, pixels = _decoded(file, asked["name"], asked["memory_bytes"] if asked["reduce"] else None)
    signal.setitimer(signal.ITIMER_PROF, 0)
    if pixels is not None and _address_space_bytes() + pixels.nbytes > most:  # the file for them takes as much again
        answer, pixels = _refused(needs_more_memory(asked["name"])), None
    message = json.dumps(answer).encode()
    if pixels is None:
        connection.send(message)
        return True
    # Not mapped but written, so that the pixels do not count twice as address space.
    with os.fdopen(os.memfd_create("pixels"), "wb") as file:
        file.write(pixels.data)
        file.flush()
        del pixels
        socket.send_fds(connection, [message], [file.fileno()])
    return True


def _decoded(photo: BinaryIO, name: str, reduce_to_bytes: int | None) -> tuple[dict[str, Any], Pixels | None]:
    try:
        content = photo.read()
        reduced = 1 if reduce_to_bytes is None else fitting_reduction(content, reduce_to_bytes)
        pixels = decode_photo(content, name, reduced)
    except PhotoError as error:
        return _refused(error), None
    except MemoryError:
        return _refused(needs_more_memory(name)), None
    except Exception as error:  # noqa: BLE001 - the daemon logs it
        return {"failed": f"{type(error).__name__}: {error}"[:1000]}, None
    return {"shape": pixels.shape}, pixels


def _refused(error: PhotoError) -> dict[str, Any]:
    return {"refused": str(error), "as": type(error).__name__}


def _address_space_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
