"""Measures the time from the upload of a photo to its answer, with the daemon's page, its decoder and its pipeline."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from urllib.parse import urlsplit

import cv2
import numpy as np

from edge.board import host
from edge.daemon.event_maker import EventMaker
from edge.daemon.pipeline import Pipeline
from edge.decision.decider import Decider
from edge.errors import ConfigError
from edge.frames import Frame
from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.server import WebServer
from edge.photos.decode import decode_photo
from edge.photos.decoder import PhotoDecoder
from edge.settings.schema import WebSettings
from edge.status.recent import Recent
from edge.status.snapshot import Status
from edge.vision.classifier import Classifier
from edge.workshop.bench.result import Upload, latency
from edge.workshop.bench.stages import EVERY_FRAME, LEAST

AT_ONCE = 4  # clients; the page takes eight requests at once, and refuses more
WITHIN_S = 15.0  # for one answer
LISTENS_WITHIN_S = 10.0
STOP_S = 5.0
JPEG = b"\xff\xd8"
Ask = Callable[[], tuple[float, str]]  # one request: milliseconds, and "" or why there was no answer


class NoFrames:
    """A camera without pictures, so that the photos do not wait for frames."""

    live = True
    ended = False

    def __init__(self) -> None:
        self.closed = threading.Event()

    def take(self, timeout_s: float) -> Frame | None:
        """None, after `timeout_s`."""
        self.closed.wait(timeout_s)
        return None


def measure_uploads(classifier: Classifier, photo: bytes, maker: EventMaker, seconds: float) -> Upload:
    """Upload a photo for `seconds`, half of the time by one client and half by AT_ONCE, each at least LEAST times.

    Args:
        classifier: classifies the photos.
        photo: sent as it is if it is a JPEG, else as a JPEG of it.
        maker: of the pipeline.
        seconds: in all.

    Raises:
        ConfigError: the page cannot be served; the message says why.
    """
    pixels = decode_photo(photo, "the photo")
    if not photo.startswith(JPEG):
        photo = cv2.imencode(".jpg", cv2.cvtColor(np.asarray(pixels), cv2.COLOR_RGB2BGR))[1].tobytes()
    with page(classifier, maker) as address:
        numbers = count()

        def ask() -> tuple[float, str]:
            return upload(address, numbered(photo, next(numbers)))

        if failure := ask()[1]:  # the first request starts the decoder and imports FastAPI
            raise ConfigError(f"the page gave no answer ({failure})")
        alone = _repeated(ask, seconds / 2)
        with ThreadPoolExecutor(AT_ONCE) as clients:
            shares = [clients.submit(_repeated, ask, seconds / 2, LEAST // AT_ONCE) for _ in range(AT_ONCE)]
            together = [one for share in shares for one in share.result()]
        peak = host.peak_memory_bytes() or 0
    failures = Counter(failure for _, failure in alone + together if failure)
    answered = [[ms for ms, failure in some if not failure] for some in (alone, together)]
    size = f"{pixels.shape[1]} × {pixels.shape[0]}"
    return Upload(
        photo=f"JPEG of {size}, {len(photo) / 1000:.0f} kB",
        requests=len(alone) + len(together),
        answered=sum(map(len, answered)),
        failures=dict(failures),
        alone=latency(answered[0], "one after the other") if answered[0] else None,
        at_once=AT_ONCE,
        together=latency(answered[1], f"{AT_ONCE} at once") if answered[1] else None,
        peak_memory_mb=round(peak / 1e6, 1),
    )


@contextmanager
def page(classifier: Classifier, maker: EventMaker) -> Iterator[str]:
    """Serve the daemon's page on a free port of the loopback address; its URL.

    Raises:
        ConfigError: it cannot be served; the message says why.
    """
    status, frames, decoder = Status(), NoFrames(), PhotoDecoder()
    with ExitStack() as stack:
        decider = Decider(EVERY_FRAME, classifier.labels)
        pipeline = Pipeline(frames, classifier, decider, maker, lambda event: None, status)
        pipeline.start()
        stack.callback(pipeline.stop, STOP_S)
        stack.callback(frames.closed.set)
        stack.callback(decoder.close)
        access = DaemonAccess(
            status=status.snapshot,
            recent=Recent(),
            top=lambda: decider.top,
            decode=decoder.decode,
            classify=pipeline.classify,
            model=lambda: {"name": classifier.name, "classes": len(classifier.labels)},
            labels=lambda: (classifier.name, classifier.labels),
            logged=lambda limit, until: [],
        )
        server = WebServer(WebSettings(listen="127.0.0.1:0"), access, gauge=status.gauge)
        server.start()
        stack.callback(server.stop, STOP_S)
        if not server.listening.wait(0 if status.snapshot().gauges["web_error"] else LISTENS_WITHIN_S):
            raise ConfigError(status.snapshot().gauges["web_error"] or "the page does not listen")
        yield server.address


def upload(address: str, photo: bytes) -> tuple[float, str]:
    """Send a photo in a connection of its own; milliseconds until the answer, and "" or why there is none."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=WITHIN_S)
    try:
        connection.request("POST", "/predict", photo, {"Content-Type": "image/jpeg"})
        answer = connection.getresponse()
        answer.read()
        failure = "" if answer.status == http.client.OK else f"HTTP {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        failure = type(error).__name__
    finally:
        connection.close()
    return (time.perf_counter() - began) * 1e3, failure


def numbered(photo: bytes, number: int) -> bytes:
    """A JPEG with a comment (ITU T.81, B.2.4.5) that differs for each number: the page keeps answers by their photo."""
    comment = number.to_bytes(8, "big")
    return JPEG + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + photo[len(JPEG) :]


def _repeated(ask: Ask, seconds: float, least: int = LEAST) -> list[tuple[float, str]]:
    answers: list[tuple[float, str]] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until or len(answers) < least:
        answers.append(ask())
    return answers
