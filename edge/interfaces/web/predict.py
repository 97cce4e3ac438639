"""`POST /predict`: photos in, labels out, without ever slowing the camera."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from edge.errors import BusyError, PhotoError
from edge.events import Classification, Label
from edge.frames import Pixels
from edge.interfaces.web.problems import ProblemError, documented
from edge.interfaces.web.view import View
from edge.photos.decode import decode_photo
from edge.photos.header import photo_size

MAX_BODY_BYTES = 12 << 20  # a phone's photo has 3 to 8 MB
MAX_PIXELS = 25_000_000  # 75 MB decoded, and one is decoded at a time
MAX_PHOTOS = 16
MAX_INSIDE = 8  # requests being served; with MAX_BODY_BYTES this bounds the memory
BODY_WITHIN_S = 20.0
ANSWER_WITHIN_S = 10.0
CACHED_ANSWERS = 64
# Who is refused waits this long for the refusal, so that a flood of tries costs no time that frames need.
REFUSE_AFTER_S = 0.25
MAX_REFUSALS_WAITING = 64
RETRY_AFTER_S = 1


class Answer(BaseModel):
    """What one photo shows."""

    top: tuple[Label, ...] = Field(description="the three most probable classes, most probable first")
    model: str = Field(description="the bundle that answered", examples=["resnet18-int8-3fa9c1"])
    latency_ms: dict[str, float] = Field(description="decode, preprocess, inference, and total with the waiting")
    cached: bool = Field(description="whether the same photo was answered before, so the model was not asked")


_PHOTO_SCHEMA = {"type": "string", "contentEncoding": "base64", "minLength": 4}
REQUEST_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {
                        "type": "array",
                        "items": {"type": "string", "format": "binary"},
                        "minItems": 1,
                        "maxItems": MAX_PHOTOS,
                    }
                },
            }
        },
        "application/json": {
            "schema": {
                "oneOf": [
                    {"type": "object", "required": ["image"], "properties": {"image": _PHOTO_SCHEMA}},
                    {
                        "type": "object",
                        "required": ["images"],
                        "properties": {
                            "images": {"type": "array", "items": _PHOTO_SCHEMA, "minItems": 1, "maxItems": MAX_PHOTOS}
                        },
                    },
                ]
            }
        },
    },
}
DESCRIPTION = f"""Classify one photo or several (JPEG, PNG, WebP, BMP or TIFF).

`curl -F file=@cat.jpg …/predict`, or JSON: `{{"image": "<base64>"}}`, `{{"images": [...]}}`. One photo gives one
object, several an array in their order. At most {MAX_PHOTOS} photos, {MAX_BODY_BYTES >> 20} MiB in all and
{MAX_PIXELS // 1_000_000} megapixels each. The camera goes first: when too many ask at once, the rest gets 429 with
`Retry-After`."""


class _InMemoryParser(MultiPartParser):
    """Photos stay in memory, which MAX_BODY_BYTES bounds; a temporary file would wear the SD card."""

    spool_max_size = MAX_BODY_BYTES  # Starlette from 0.46
    max_file_size = MAX_BODY_BYTES  # and before


class Predictor:
    """Answers photos one after the other, remembers answers, refuses the surplus; lives in the web loop.

    Args:
        view: the classify queue and the model's name.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._inside = 0
        self._refusals_waiting = 0
        self._answers: OrderedDict[tuple[str, str], Answer] = OrderedDict()  # by model and photo
        # One thread: decoding competes with the inference for cores and memory.
        self._decoder = ThreadPoolExecutor(1, "web-decode")

    def close(self) -> None:
        """Let the decoding thread end."""
        self._decoder.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Room for one request, or 429 after a moment."""
        if self._inside >= MAX_INSIDE:
            await self._refuse("Too many photos are being classified")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def _refuse(self, why: str) -> None:
        if self._refusals_waiting < MAX_REFUSALS_WAITING:
            self._refusals_waiting += 1
            try:
                await asyncio.sleep(REFUSE_AFTER_S)
            finally:
                self._refusals_waiting -= 1
        raise ProblemError(429, f"{why}; ask again in a moment.", {"Retry-After": str(RETRY_AFTER_S)})

    async def answer(self, content: bytes, name: str) -> Answer:
        """What one photo shows.

        Raises:
            ProblemError: it is no photo, too large, or there was no answer in time.
        """
        began = time.perf_counter()
        digest = hashlib.sha256(content).hexdigest()
        key = self._view.model()["name"], digest
        if (known := self._answers.get(key)) is not None:
            self._answers.move_to_end(key)
            latency_ms = known.latency_ms | {"total": _milliseconds_since(began)}
            return known.model_copy(update={"cached": True, "latency_ms": latency_ms})
        pixels, decode_ms = await asyncio.get_running_loop().run_in_executor(self._decoder, _decode, content, name)
        found = await self._classify(pixels)
        latency_ms = {"decode": decode_ms, **found.latency_ms, "total": _milliseconds_since(began)}
        answer = Answer(top=found.top, model=found.model, latency_ms=latency_ms, cached=False)
        self._answers[found.model, digest] = answer
        if len(self._answers) > CACHED_ANSWERS:
            self._answers.popitem(last=False)
        return answer

    async def _classify(self, pixels: Pixels) -> Classification:
        try:
            future = self._view.classify(pixels)
            return await asyncio.wait_for(asyncio.wrap_future(future), ANSWER_WITHIN_S)
        except BusyError:
            await self._refuse("Too many photos wait for the model")
            raise AssertionError("unreachable") from None
        except (asyncio.TimeoutError, TimeoutError) as error:
            raise ProblemError(
                503, f"The model did not answer within {ANSWER_WITHIN_S:.0f} s; see /api/status.", {"Retry-After": "5"}
            ) from error
        except asyncio.CancelledError as error:
            if future.cancelled():  # by the pipeline, which stops; not us by our client
                raise ProblemError(503, "The daemon is stopping.", {"Retry-After": "5"}) from error
            raise


def _milliseconds_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)


def _decode(content: bytes, name: str) -> tuple[Pixels, float]:
    began = time.perf_counter()
    size = photo_size(content)
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise ProblemError(
            413, f"{name} has {size[0]}×{size[1]} pixels; send at most {MAX_PIXELS // 1_000_000} megapixels."
        )
    try:
        return decode_photo(content, name), _milliseconds_since(began)
    except PhotoError as error:
        raise ProblemError(422, str(error)) from error


async def _bounded(request: Request) -> AsyncGenerator[bytes, None]:
    """The body's pieces, up to MAX_BODY_BYTES."""
    too_large = ProblemError(
        413, f"The request has more than {MAX_BODY_BYTES >> 20} MiB; send fewer or smaller photos."
    )
    if int(request.headers.get("content-length") or 0) > MAX_BODY_BYTES:
        raise too_large
    received = 0
    async for piece in request.stream():
        received += len(piece)
        if received > MAX_BODY_BYTES:
            raise too_large
        yield piece


async def _photos(request: Request) -> list[tuple[str, bytes]]:
    """(name, content) of each photo in the request."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        photos = await _from_form(request)
    elif kind == "application/json":
        photos = _from_json(b"".join([piece async for piece in _bounded(request)]))
    else:
        raise ProblemError(415, "Send photos as multipart/form-data (curl -F file=@cat.jpg) or base64 in JSON.")
    if not photos:
        raise ProblemError(400, "The request holds no photo; send one as a file.")
    if len(photos) > MAX_PHOTOS:
        raise ProblemError(413, f"The request holds {len(photos)} photos; send at most {MAX_PHOTOS}.")
    return photos


async def _from_form(request: Request) -> list[tuple[str, bytes]]:
    try:
        form = await _InMemoryParser(request.headers, _bounded(request), max_files=MAX_PHOTOS, max_fields=8).parse()
    except MultiPartException as error:
        raise ProblemError(400, f"The form cannot be read: {error.message}") from error
    except (ValueError, KeyError) as error:  # what python-multipart and email raise for broken boundaries
        raise ProblemError(400, f"The form cannot be read: {error}.") from error
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    try:
        return [((file.filename or "the photo")[:100], await file.read()) for file in files]
    finally:
        await form.close()


def _from_json(body: bytes) -> list[tuple[str, bytes]]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, f"The body is not JSON: {error}.") from error
    fields = document if isinstance(document, dict) else {}
    texts: Any = fields.get("images") if "images" in fields else [fields.get("image")]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ProblemError(400, 'The body must look like {"image": "<base64>"} or {"images": ["<base64>", …]}.')
    return [(f"photo {number}", _from_base64(text, number)) for number, text in enumerate(texts, 1)]


def _from_base64(text: str, number: int) -> bytes:
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProblemError(400, f"Photo {number} is not base64: {error}.") from error


def make_router(predictor: Predictor) -> APIRouter:
    """The route of `/predict`."""
    router = APIRouter()

    @router.post(
        "/predict",
        summary="Classify photos",
        description=DESCRIPTION,
        response_model=Answer | list[Answer],
        responses=documented(400, 401, 403, 408, 413, 415, 422, 429, 503),
        openapi_extra={"requestBody": REQUEST_BODY},
        tags=["photos"],
    )
    async def predict(request: Request) -> Answer | list[Answer]:
        async with predictor.admitted():
            try:
                photos = await asyncio.wait_for(_photos(request), BODY_WITHIN_S)
            except (asyncio.TimeoutError, TimeoutError) as error:
                raise ProblemError(408, f"The photos did not arrive within {BODY_WITHIN_S:.0f} s.") from error
            except ClientDisconnect as error:
                raise ProblemError(400, "The client went away while sending.") from error
            answers = [await predictor.answer(content, name) for name, content in photos]
        return answers[0] if len(answers) == 1 else answers

    return router
