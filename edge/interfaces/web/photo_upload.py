"""The photos in a request's body: a form, base64 in JSON, or one photo as it is; bounded in bytes and in number."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from edge.interfaces.json_document import parse_json

MAX_BODY_BYTES = 12 << 20  # a phone's photo has 3 to 8 MB
MAX_PHOTOS = 16
# Of the request and of each part of a form. python-multipart before 0.0.27 takes a time that grows with their square.
MAX_TYPE = 500  # characters
MAX_PART_HEADERS = 2048  # bytes; the name of a file has 765 at most
URL_ENCODED = "application/x-www-form-urlencoded"
# Of a body that is a photo. Without -H, `curl -T` sends no type, and `curl --data-binary` that of a form.
RAW_KINDS = {"", "application/octet-stream", "binary/octet-stream", URL_ENCODED}
HOW_TO_SEND = (
    "Send a photo as the body (curl -T cat.jpg), photos as multipart/form-data (curl -F file=@cat.jpg), or base64 in"
    " JSON."
)


class Photo(NamedTuple):
    """One photo of a request."""

    name: str  # for error messages
    content: bytes | HTTPException  # the error, if what was sent is no base64


class Sent(NamedTuple):
    """What a request holds."""

    photos: list[Photo]  # at least one
    top: int | None  # how many classes of each are asked for


def _object_with(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [name], "properties": {name: schema, "top": _TOP}}


_TOP = {"type": "integer", "minimum": 1}
_SEVERAL = {"type": "array", "minItems": 1, "maxItems": MAX_PHOTOS}
_BASE64 = {"type": "string", "contentEncoding": "base64", "minLength": 4}
_BINARY = {"type": "string", "format": "binary"}
_FORM = _object_with("file", {**_SEVERAL, "items": _BINARY})
_JSON = {"oneOf": [_object_with("image", _BASE64), _object_with("images", {**_SEVERAL, "items": _BASE64})]}
# For OpenAPI: FastAPI cannot derive a body that may be a form, JSON or a photo.
REQUEST_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": _FORM},
        "application/json": {"schema": _JSON},
        "application/octet-stream": {"schema": _BINARY},
        "image/*": {"schema": _BINARY},
    },
}


class _InMemoryParser(MultiPartParser):
    """Keeps photos in memory, which MAX_BODY_BYTES bounds; temporary files would wear the SD card."""

    spool_max_size = MAX_BODY_BYTES  # Starlette from 0.46
    max_file_size = MAX_BODY_BYTES  # and before
    _header_bytes = 0

    def on_part_begin(self) -> None:
        self._header_bytes = 0
        super().on_part_begin()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._bound_headers(end - start)
        super().on_header_field(data, start, end)

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._bound_headers(end - start)
        super().on_header_value(data, start, end)

    def _bound_headers(self, more: int) -> None:
        self._header_bytes += more
        if self._header_bytes > MAX_PART_HEADERS:
            raise MultiPartException(f"A part has more than {MAX_PART_HEADERS} bytes of headers")


async def read_photos(request: Request) -> Sent:
    """The photos in the request.

    Raises:
        HTTPException: the body is too large, not readable, or holds no photo or too many.
    """
    content_type = request.headers.get("content-type", "")
    if len(content_type) > MAX_TYPE:
        raise HTTPException(400, f"The Content-Type has more than {MAX_TYPE} characters.")
    kind = content_type.split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        sent = await _from_form(request)
    elif kind == "application/json":
        sent = _from_json(await read_body(request))
    elif kind in RAW_KINDS or kind.startswith("image/"):
        sent = Sent(_from_body(await read_body(request), kind), None)
    else:
        raise HTTPException(415, f"A body of the type {kind:.60} is no photo. {HOW_TO_SEND}")
    if not sent.photos:
        raise HTTPException(400, f"The request holds no photo. {HOW_TO_SEND}")
    if len(sent.photos) > MAX_PHOTOS:
        raise HTTPException(413, f"The request holds {len(sent.photos)} photos; send at most {MAX_PHOTOS}.")
    return sent


async def read_body(request: Request) -> bytes:
    """The whole body.

    Raises:
        HTTPException: it is compressed, or has more than MAX_BODY_BYTES.
    """
    return b"".join([piece async for piece in _bounded(request)])


async def _bounded(request: Request) -> AsyncGenerator[bytes, None]:
    """The body's pieces; raises HTTPException if it is compressed, or beyond MAX_BODY_BYTES."""
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise HTTPException(415, "Send photos without a Content-Encoding; they are compressed already.")
    too_large = HTTPException(
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


async def _from_form(request: Request) -> Sent:
    try:
        form = await _InMemoryParser(request.headers, _bounded(request), max_files=MAX_PHOTOS, max_fields=8).parse()
    except (MultiPartException, ValueError, KeyError) as error:  # the last two: python-multipart's, broken boundaries
        raise HTTPException(400, f"The form cannot be read: {str(error).rstrip('.')}.") from error
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    try:
        photos = [Photo((file.filename or "the photo")[:100], await file.read()) for file in files]
        return Sent(photos, top_of(form.get("top")))
    finally:
        await form.close()


def _from_body(body: bytes, kind: str) -> list[Photo]:
    # Every kind of picture has a zero byte among its first ones, and a form has none.
    if kind == URL_ENCODED and body and b"\0" not in body[:65536]:
        hint = "`curl -d` removes bytes of a photo; `--data-binary` does not."
        raise HTTPException(415, f"This form holds no file. {HOW_TO_SEND} {hint}")
    return [Photo("the photo", body)] if body else []


def _from_json(body: bytes) -> Sent:
    try:
        document = parse_json(body)
    except ValueError as error:
        raise HTTPException(400, f"The body is not JSON: {error}.") from error
    fields = document if isinstance(document, dict) else {}
    texts: Any = fields.get("images") if "images" in fields else [fields.get("image")]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise HTTPException(400, 'The body must look like {"image": "<base64>"} or {"images": ["<base64>", …]}.')
    return Sent([from_base64(text, f"photo {n}") for n, text in enumerate(texts, 1)], top_of(fields.get("top")))


def from_base64(text: str, name: str) -> Photo:
    """A photo from its base64, which may be a data URL."""
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return Photo(name, base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError) as error:
        return Photo(name, HTTPException(400, f"{name.capitalize()} is not base64: {error}."))


def top_of(value: object) -> int | None:
    """How many classes a field `top` asks for; None if there is none.

    Raises:
        HTTPException: it is no whole number.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,9}", text := str(value).strip()):
        raise HTTPException(422, f"top must be a whole number, such as 5, and not {value!s:.20}.")
    return int(text)


def refuse_unless_among(classes: int, top: int | None) -> None:
    """Refuse to return more classes than the model has, or none.

    Raises:
        HTTPException: `top` is below 1 or above `classes`.
    """
    if top is not None and not 1 <= top <= classes:
        raise HTTPException(422, f"top must be 1 to {classes}, the number of classes of the model.")
