"""The photos in a request's body: a multipart form or base64 in JSON, bounded in bytes and in number."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from edge.interfaces.json_document import parse_json

MAX_BODY_BYTES = 12 << 20  # a phone's photo has 3 to 8 MB
MAX_PHOTOS = 16


def _object_with(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [name], "properties": {name: schema}}


_SEVERAL = {"type": "array", "minItems": 1, "maxItems": MAX_PHOTOS}
_BASE64 = {"type": "string", "contentEncoding": "base64", "minLength": 4}
_FORM = _object_with("file", {**_SEVERAL, "items": {"type": "string", "format": "binary"}})
_JSON = {"oneOf": [_object_with("image", _BASE64), _object_with("images", {**_SEVERAL, "items": _BASE64})]}
# For OpenAPI: FastAPI cannot derive a body that may be a form or JSON.
REQUEST_BODY = {
    "required": True,
    "content": {"multipart/form-data": {"schema": _FORM}, "application/json": {"schema": _JSON}},
}


class _InMemoryParser(MultiPartParser):
    """Keeps photos in memory, which MAX_BODY_BYTES bounds; temporary files would wear the SD card."""

    spool_max_size = MAX_BODY_BYTES  # Starlette from 0.46
    max_file_size = MAX_BODY_BYTES  # and before


async def read_photos(request: Request) -> list[tuple[str, bytes]]:
    """The name and content of each photo in the request, at least one.

    Raises:
        HTTPException: the body is too large, not readable, or holds no photo or too many.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        photos = await _from_form(request)
    elif kind == "application/json":
        photos = _from_json(b"".join([piece async for piece in _bounded(request)]))
    else:
        raise HTTPException(415, "Send photos as multipart/form-data (curl -F file=@cat.jpg) or base64 in JSON.")
    if not photos:
        raise HTTPException(400, "The request holds no photo; send one as a file.")
    if len(photos) > MAX_PHOTOS:
        raise HTTPException(413, f"The request holds {len(photos)} photos; send at most {MAX_PHOTOS}.")
    return photos


async def _bounded(request: Request) -> AsyncGenerator[bytes, None]:
    """The body's pieces; raises HTTPException beyond MAX_BODY_BYTES."""
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


async def _from_form(request: Request) -> list[tuple[str, bytes]]:
    try:
        form = await _InMemoryParser(request.headers, _bounded(request), max_files=MAX_PHOTOS, max_fields=8).parse()
    except (MultiPartException, ValueError, KeyError) as error:  # the last two: python-multipart's, broken boundaries
        raise HTTPException(400, f"The form cannot be read: {str(error).rstrip('.')}.") from error
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    try:
        return [((file.filename or "the photo")[:100], await file.read()) for file in files]
    finally:
        await form.close()


def _from_json(body: bytes) -> list[tuple[str, bytes]]:
    try:
        document = parse_json(body)
    except ValueError as error:
        raise HTTPException(400, f"The body is not JSON: {error}.") from error
    fields = document if isinstance(document, dict) else {}
    texts: Any = fields.get("images") if "images" in fields else [fields.get("image")]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise HTTPException(400, 'The body must look like {"image": "<base64>"} or {"images": ["<base64>", …]}.')
    return [(f"photo {number}", _from_base64(text, number)) for number, text in enumerate(texts, 1)]


def _from_base64(text: str, number: int) -> bytes:
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(400, f"Photo {number} is not base64: {error}.") from error
