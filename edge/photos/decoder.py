"""Decodes photos that strangers send, in a child process with limits of memory and time.

A photo of 1 MB can keep a decoder busy for a minute, make it allocate a gigabyte, or crash it. In the child only that
photo is refused, and the daemon goes on. Photos of commands and of `file:` sources are the operator's
own, and are decoded by `decode.py` in the process that reads them.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from edge.board import host
from edge.board.child_process import fresh_python
from edge.errors import BusyError, PhotoError, PhotoMemoryError, PhotoTooLargeError
from edge.frames import Pixels
from edge.photos.decode import damaged
from edge.photos.decoder_child import MAX_MESSAGE_BYTES, REFUSALS
from edge.repeating_fault import RepeatingFault

logger = logging.getLogger("edge.photos.decoder")

# Of address space, beyond what the child has after its imports. 50 megapixels take 150 MB as pixels, 300 while EXIF
# turns them or a progressive JPEG is read, and 350 in a lossless WebP.
MEMORY_BYTES = 400 << 20
# Of the free memory, which may be less: what is left for the libraries in use, which count as free, and for the frames;
# and what a photo may take even where nothing is free.
LEFT_BYTES = 32 << 20
LEAST_BYTES = 8 << 20
CPU_S = 2.0  # of processor time for a photo
WITHIN_S = 5.0  # for a photo of a child that has to share its processor
END_WITHIN_S = 2.0
START_WITHIN_S = 30.0  # importing OpenCV takes seconds on a Zero 2 W
IDLE_S = 120.0  # after which the child ends, and its memory is free
ATTEMPTS = 4  # a child may end, idle, just when a photo comes; on a busy machine several times
MAX_NAME = 200  # characters
PROGRAM = "from edge.photos.decoder_child import main; main()"
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",  # threads would reserve address space, and are of no use here
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),  # returns a photo's memory at once
}


class PhotoDecoder:
    """Decodes one photo at a time; every method may be called from any thread.

    The child starts with the first photo, and ends when it had nothing to do for `idle_s`, when a photo has reached a
    limit, and with this process, however that ends. The next photo then starts another one.

    Args:
        memory_bytes: the most that a photo may take in the child, even where more is free.
        cpu_s: the most processor time that a photo may take.
        idle_s: the time after which the child ends.
        free_bytes: returns the free memory, or None where that is not known.
    """

    def __init__(
        self,
        *,
        memory_bytes: int = MEMORY_BYTES,
        cpu_s: float = CPU_S,
        idle_s: float = IDLE_S,
        free_bytes: Callable[[], int | None] = host.memory_free_bytes,
    ) -> None:
        self._cpu_s, self._memory_bytes, self._free_bytes = cpu_s, memory_bytes, free_bytes
        self._arguments = str(memory_bytes), str(cpu_s), str(idle_s)
        self._one_at_a_time = threading.Lock()
        self._child: _Child | None = None
        self._closed = False
        self._starting, self._crashing = RepeatingFault(logger), RepeatingFault(logger)

    def decode(self, content: bytes, name: str) -> Pixels:
        """Decode a photo as `decode_photo` does, with the same messages; the pixels lie in memory of their own.

        A JPEG for which the free memory does not suffice is reduced while it is decoded, to no less than a model uses.

        Raises:
            PhotoError: it is not a photo, truncated or damaged.
            PhotoTooLargeError: it has too many pixels, or takes too much time or memory, or more than the box has free.
            BusyError: the child cannot be started, or the daemon is stopping.
        """
        name = name[:MAX_NAME]
        with self._one_at_a_time:
            for _ in range(ATTEMPTS):
                child = self._ready_child()
                try:
                    return self._decoded_by(child, content, name)
                except TimeoutError as error:
                    self._kill()
                    raise self._too_slow(name) from error
                except ConnectionError:  # it has ended before it took the photo
                    self._kill()
                except EOFError as error:
                    if (code := self._end()) != 0:
                        raise self._reason(code, name) from error
                # Exit code 0: its idle time ended just when this photo came, so another child is started.
            raise _busy("the decoder ends at once")

    def _decoded_by(self, child: _Child, content: bytes, name: str) -> Pixels:
        free = self._free_bytes()
        most = self._memory_bytes if free is None else min(self._memory_bytes, max(free - LEFT_BYTES, LEAST_BYTES))
        try:
            return child.decode(content, name, most, reduce=most < self._memory_bytes)
        except PhotoMemoryError as error:
            if most == self._memory_bytes:
                raise
            raise PhotoMemoryError(
                f"{name} is too large for this box's memory, of which a photo may take {most >> 20} MB now; make it"
                " smaller."
            ) from error

    def close(self) -> None:
        """End the child, even during a photo, and refuse further photos."""
        self._closed = True
        if (child := self._child) is not None:
            child.process.kill()  # ends the wait of the thread that has a photo decoded
        with self._one_at_a_time:
            self._kill()

    def _ready_child(self) -> _Child:
        if self._child is not None and self._child.process.poll() is not None:
            self._end()  # it was killed between two photos
        if self._child is None:
            self._refuse_if_closed()
            try:
                self._child = _Child(self._arguments)
                self._refuse_if_closed()
                self._child.wait_ready()
            except OSError as error:
                self._kill()
                self._refuse_if_closed()
                busy = _busy(error.strerror or error)
                self._starting.happened(str(busy))
                raise busy from error
            self._starting.over("Photos can be decoded again.")
        return self._child

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise BusyError("The daemon is stopping; ask again in a moment.")

    def _end(self) -> int:
        """Wait for the end of the child; returns its exit code, negative for a signal."""
        child, self._child = self._child, None
        return 0 if child is None else child.wait()

    def _kill(self) -> None:
        if self._child is not None:
            self._child.process.kill()
            self._end()

    def _too_slow(self, name: str) -> PhotoError:
        return PhotoTooLargeError(
            f"{name} takes more than {self._cpu_s:.3g} s to decode; make it smaller, or save it again as a plain JPEG."
        )

    def _reason(self, code: int, name: str) -> Exception:
        """Why the child ended during a photo, as the exception to raise."""
        self._refuse_if_closed()
        if code == -signal.SIGPROF:
            return self._too_slow(name)
        # `over` is never called: if photos that crash it alternate with others, that would log two lines for each pair.
        ended = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
        self._crashing.happened(
            f"The process that decodes photos has ended with {ended} during one; the daemon goes on."
        )
        if code == -signal.SIGKILL:
            return PhotoTooLargeError(
                f"{name} was not decoded, because the decoder was killed, as the system does where memory runs out;"
                " make it smaller."
            )
        return damaged(name)


class _Child:
    """A process that runs `decoder_child.py`, and the socket to it."""

    def __init__(self, arguments: tuple[str, ...]) -> None:
        # The kernel keeps the bounds of each message, and closes the socket however one of the two processes ends.
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self.process = subprocess.Popen(
                    fresh_python(PROGRAM, *arguments, options=("-W", "ignore")),
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env=os.environ | ENVIRONMENT,
                    start_new_session=True,  # Ctrl-C is for the daemon
                )
            except OSError:
                self._socket.close()
                raise

    def wait_ready(self) -> None:
        """Wait until it has imported OpenCV and set its limits; raises OSError if it does not."""
        self._socket.settimeout(START_WITHIN_S)
        if not self._socket.recv(MAX_MESSAGE_BYTES):
            raise ChildProcessError(f"it has ended with exit code {self.process.wait()}")

    def decode(self, content: bytes, name: str, memory_bytes: int, *, reduce: bool) -> Pixels:
        """As `PhotoDecoder.decode`, in at most that much memory, but raises other errors if there is no answer.

        Raises:
            TimeoutError: there is none in time.
            ConnectionError: the child has ended before it took the photo.
            EOFError: it has ended during the photo.
        """
        try:
            file = os.memfd_create("photo")  # a file in memory
        except OSError as error:  # too many open files
            raise _busy(error.strerror) from error
        with os.fdopen(file, "wb") as photo:
            photo.write(content)
            photo.flush()
            answer, files = self._ask({"name": name, "memory_bytes": memory_bytes, "reduce": reduce}, file)
        if "shape" in answer:
            return _mapped(files, answer["shape"])
        if "refused" in answer:
            raise REFUSALS[answer["as"]](answer["refused"])
        raise RuntimeError(f"A photo could not be decoded: {answer['failed']}")

    def _ask(self, request: dict[str, Any], file: int) -> tuple[dict[str, Any], list[int]]:
        self._socket.settimeout(WITHIN_S)
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode()], [file])
            message, files, _, _ = socket.recv_fds(self._socket, MAX_MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        except (TimeoutError, ConnectionError):  # the kernel reports a request that was not received as ECONNRESET
            raise
        except OSError as error:
            raise EOFError from error
        if not message:
            raise EOFError
        return json.loads(message), files

    def wait(self) -> int:
        """Wait for its end; returns its exit code, negative for a signal."""
        self._socket.close()  # it ends at this, unless it is in a decoder
        try:
            return self.process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def _mapped(files: list[int], shape: list[int]) -> Pixels:
    """The pixels in a file in memory; it is freed with the array."""
    if not files:  # this process has too many open files
        raise _busy("too many open files")
    try:
        return np.frombuffer(mmap.mmap(files[0], 0), np.uint8).reshape(shape)
    except OSError as error:
        raise _busy(error.strerror) from error
    finally:
        os.close(files[0])


def _busy(why: object) -> BusyError:
    return BusyError(f"Photos cannot be decoded at present ({why}); ask again in a moment.")
