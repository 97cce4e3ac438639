"""Classifies photos between the camera's frames, for every route that takes photos; surplus ones get 429."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import anyio
from fastapi import HTTPException
from starlette.requests import ClientDisconnect

from edge.errors import BusyError, PhotoError, PhotoTooLargeError
from edge.events import Classification
from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.photo_upload import Photo

MAX_REQUESTS = 8  # served at once; with MAX_BODY_BYTES this bounds the memory
BODY_WITHIN_S = 20.0
ANSWER_WITHIN_S = 10.0
CACHED_ANSWERS = 64
TOP = 3  # classes of each photo, where the client does not ask for another number
# A refusal is delayed this long, so that clients that retry at once take little processor time from the frames.
REFUSE_AFTER_S = 0.25
MAX_REFUSALS_WAITING = 64
RETRY_AFTER_S = 1
# Errors of the box, not of a photo: the remaining photos of the request would get the same.
BUSY = (429, 503)
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Result:
    """One photo's classification."""

    found: Classification
    latency_ms: Mapping[str, float]  # decode, preprocess, inference, and total with the waiting
    cached: bool  # whether it is the remembered one of the same photo, sent earlier


class Predictor:
    """Classifies photos one at a time, remembers results and refuses what is beyond its limits; in the event loop.

    Args:
        daemon: source of the queue for the model and the model's name.
    """

    def __init__(self, daemon: DaemonAccess) -> None:
        self._daemon = daemon
        self._requests = asyncio.Semaphore(MAX_REQUESTS)
        self._refusals = asyncio.Semaphore(MAX_REFUSALS_WAITING)
        self._known: OrderedDict[tuple[str, str], Result] = OrderedDict()  # by model and photo
        # One thread, because the daemon decodes one photo at a time.
        self._decoder = ThreadPoolExecutor(1, "web-decode")

    def close(self) -> None:
        """End the decoding thread."""
        self._decoder.shutdown(wait=False, cancel_futures=True)

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place for one request, held from before its body is read until it is answered.

        Raises:
            HTTPException: 429, all are taken.
        """
        if self._requests.locked():
            await self._refuse("Too many photos are being classified")
        async with self._requests:
            yield

    async def received(self, reading: Coroutine[Any, Any, _Read]) -> _Read:
        """What `reading` a request's body returns.

        Raises:
            HTTPException: the body did not arrive in time, or what `reading` raises.
        """
        try:
            with anyio.fail_after(BODY_WITHIN_S):
                return await reading
        except TimeoutError as error:
            raise HTTPException(408, f"The photos did not arrive within {BODY_WITHIN_S:.0f} s.") from error
        except ClientDisconnect as error:
            raise HTTPException(400, "The client went away while sending.") from error

    async def results(self, photos: Sequence[Photo]) -> list[Result | HTTPException]:
        """For each photo its result, or the error that it would get in a request of its own; at least one result.

        Raises:
            HTTPException: none of the photos has a result.
        """
        results: list[Result | HTTPException] = []
        busy: HTTPException | None = None
        for photo in photos:
            try:
                results.append(busy or await self._result(photo))
            except HTTPException as error:
                # Its traceback would keep the photo until the next collection of reference cycles.
                results.append(error.with_traceback(None))
                busy = error if error.status_code in BUSY else None
        errors = [result for result in results if isinstance(result, HTTPException)]
        if len(errors) == len(results):
            raise one_error(errors)
        return results

    async def _refuse(self, why: str) -> NoReturn:
        if not self._refusals.locked():
            async with self._refusals:
                await asyncio.sleep(REFUSE_AFTER_S)
        raise HTTPException(429, f"{why}; ask again in a moment.", {"Retry-After": str(RETRY_AFTER_S)})

    async def _result(self, photo: Photo) -> Result:
        began = time.perf_counter()
        if isinstance(photo.content, HTTPException):
            raise photo.content
        digest = hashlib.sha256(photo.content).hexdigest()
        key = self._daemon.model()["name"], digest
        if (known := self._known.get(key)) is not None:
            self._known.move_to_end(key)
            return Result(known.found, {**known.latency_ms, "total": _milliseconds_since(began)}, cached=True)
        loop = asyncio.get_running_loop()
        future, decode_ms = await loop.run_in_executor(self._decoder, self._decode_and_queue, photo.content, photo.name)
        if future is None:
            await self._refuse("Too many photos wait for the model")
        found = await self._found(future)
        latency_ms = {"decode": decode_ms, **found.latency_ms, "total": _milliseconds_since(began)}
        result = self._known[found.model, digest] = Result(found, latency_ms, cached=False)
        if len(self._known) > CACHED_ANSWERS:
            self._known.popitem(last=False)
        return result

    def _decode_and_queue(self, content: bytes, name: str) -> tuple[Future[Classification] | None, float]:
        """The answer to come, None if the queue is full, and the milliseconds of decoding; in the decoding thread.

        The pixels, up to 3 * MAX_PIXELS bytes, are freed on return, so only one photo's are in memory at a time. The
        queue holds the small input of the model.
        """
        began = time.perf_counter()
        try:
            pixels = self._daemon.decode(content, name)
        except PhotoTooLargeError as error:
            raise HTTPException(413, str(error)) from error
        except PhotoError as error:
            raise HTTPException(422, str(error)) from error
        except BusyError as error:
            raise HTTPException(503, str(error), {"Retry-After": "5"}) from error
        decode_ms = _milliseconds_since(began)
        try:
            return self._daemon.classify(pixels), decode_ms
        except BusyError:
            return None, decode_ms

    async def _found(self, future: Future[Classification]) -> Classification:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), ANSWER_WITHIN_S)
        except asyncio.TimeoutError as error:
            raise HTTPException(
                503, f"The model did not answer within {ANSWER_WITHIN_S:.0f} s; see /api/status.", {"Retry-After": "5"}
            ) from error
        except asyncio.CancelledError as error:
            if future.cancelled():  # by the pipeline, which stops; otherwise the client has disconnected
                raise HTTPException(503, "The daemon is stopping.", {"Retry-After": "5"}) from error
            raise


def one_error(errors: Sequence[HTTPException]) -> HTTPException:
    """The errors of several photos as one, with the sentences of all."""
    first = next((error for error in errors if error.status_code in BUSY), errors[0])
    return HTTPException(first.status_code, " ".join(dict.fromkeys(error.detail for error in errors)), first.headers)


def _milliseconds_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)
