"""`POST /predict`: classifies photos between the camera's frames; photos for which there is no time get 429."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NoReturn

import anyio
from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from edge.errors import BusyError, PhotoError, PhotoTooLargeError
from edge.events import Classification, Label
from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.photo_upload import MAX_BODY_BYTES, MAX_PHOTOS, REQUEST_BODY, read_photos
from edge.interfaces.web.problem_details import documented
from edge.photos.decode import MAX_PIXELS

MAX_REQUESTS = 8  # served at once; with MAX_BODY_BYTES this bounds the memory
BODY_WITHIN_S = 20.0
ANSWER_WITHIN_S = 10.0
CACHED_ANSWERS = 64
# A refusal is delayed this long, so that clients that retry at once take little processor time from the frames.
REFUSE_AFTER_S = 0.25
MAX_REFUSALS_WAITING = 64
RETRY_AFTER_S = 1


class Answer(BaseModel):
    """The answer for one photo."""

    top: tuple[Label, ...] = Field(description="the three most probable classes, most probable first")
    model: str = Field(description="the bundle that answered", examples=["resnet18-int8-3fa9c1"])
    latency_ms: dict[str, float] = Field(description="decode, preprocess, inference, and total with the waiting")
    cached: bool = Field(description="whether this is the kept answer to the same photo, sent earlier")


DESCRIPTION = f"""Classify one photo or several (JPEG, PNG, WebP, BMP or TIFF; GIF and AVIF where OpenCV
reads them; of an animation the first picture).

`curl -F file=@cat.jpg …/predict`, or JSON: `{{"image": "<base64>"}}`, `{{"images": [...]}}`. One photo gives one
object, several an array in their order. At most {MAX_PHOTOS} photos, {MAX_BODY_BYTES >> 20} MiB in all and
{MAX_PIXELS // 1_000_000} megapixels each. The camera goes first: when too many ask at once, the rest gets 429 with
`Retry-After`."""


class Predictor:
    """Classifies photos one at a time, caches answers and refuses requests beyond its limits; runs in the event loop.

    Args:
        daemon: source of the queue for the model and the model's name.
    """

    def __init__(self, daemon: DaemonAccess) -> None:
        self._daemon = daemon
        self._requests = asyncio.Semaphore(MAX_REQUESTS)
        self._refusals = asyncio.Semaphore(MAX_REFUSALS_WAITING)
        self._answers: OrderedDict[tuple[str, str], Answer] = OrderedDict()  # by model and photo
        # One thread, because the daemon decodes one photo at a time.
        self._decoder = ThreadPoolExecutor(1, "web-decode")

    def close(self) -> None:
        """End the decoding thread."""
        self._decoder.shutdown(wait=False, cancel_futures=True)

    async def predict(self, request: Request) -> Answer | list[Answer]:
        """Classify the photos of one request; several are answered in their order.

        Raises:
            HTTPException: too many requests are served already, or one of the photos cannot be answered.
        """
        if self._requests.locked():
            await self._refuse("Too many photos are being classified")
        async with self._requests:
            try:
                with anyio.fail_after(BODY_WITHIN_S):
                    photos = await read_photos(request)
            except TimeoutError as error:
                raise HTTPException(408, f"The photos did not arrive within {BODY_WITHIN_S:.0f} s.") from error
            except ClientDisconnect as error:
                raise HTTPException(400, "The client went away while sending.") from error
            answers = [await self._answer(content, name) for name, content in photos]
        return answers[0] if len(answers) == 1 else answers

    async def _refuse(self, why: str) -> NoReturn:
        if not self._refusals.locked():
            async with self._refusals:
                await asyncio.sleep(REFUSE_AFTER_S)
        raise HTTPException(429, f"{why}; ask again in a moment.", {"Retry-After": str(RETRY_AFTER_S)})

    async def _answer(self, content: bytes, name: str) -> Answer:
        began = time.perf_counter()
        digest = hashlib.sha256(content).hexdigest()
        key = self._daemon.model()["name"], digest
        if (known := self._answers.get(key)) is not None:
            self._answers.move_to_end(key)
            latency_ms = known.latency_ms | {"total": _milliseconds_since(began)}
            return known.model_copy(update={"cached": True, "latency_ms": latency_ms})
        loop = asyncio.get_running_loop()
        future, decode_ms = await loop.run_in_executor(self._decoder, self._decode_and_queue, content, name)
        if future is None:
            await self._refuse("Too many photos wait for the model")
        found = await self._result_of(future)
        latency_ms = {"decode": decode_ms, **found.latency_ms, "total": _milliseconds_since(began)}
        answer = Answer(top=found.top, model=found.model, latency_ms=latency_ms, cached=False)
        self._answers[found.model, digest] = answer
        if len(self._answers) > CACHED_ANSWERS:
            self._answers.popitem(last=False)
        return answer

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

    async def _result_of(self, future: Future[Classification]) -> Classification:
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


def _milliseconds_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)


def make_router(predictor: Predictor) -> APIRouter:
    """The route of `/predict`."""
    router = APIRouter()
    router.add_api_route(
        "/predict",
        predictor.predict,
        methods=["POST"],
        summary="Classify photos",
        description=DESCRIPTION,
        response_model=Answer | list[Answer],
        responses=documented(400, 401, 403, 408, 413, 415, 422, 429, 503),
        openapi_extra={"requestBody": REQUEST_BODY},
        tags=["photos"],
    )
    return router
