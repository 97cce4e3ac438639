"""Bounds the requests at once, and the bytes of their bodies; never the probes, so that a busy box counts as alive."""

from __future__ import annotations

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.interfaces.web.access_control import OPEN_PATHS, SAFE_METHODS
from edge.interfaces.web.problem_details import problem_response
from edge.interfaces.web.refusals import Refusals

MAX_REQUESTS = 96  # answered at once; the connections of waiting requests make room, these do not
# Of the bodies of all requests that are being answered; a body is several times as large in memory while it is read.
MAX_BODIES_BYTES = 48 << 20
# What needs no token, so that strangers take no place of those who have it. A wrong token at the login waits, but does
# no work meanwhile; the metrics have a thread of their own.
NOT_COUNTED = OPEN_PATHS | {"/metrics"}


class RequestLimit:
    """ASGI middleware behind the access control.

    Args:
        app: the application that it protects.
        refusals: logs that requests are refused.
    """

    def __init__(self, app: ASGIApp, refusals: Refusals) -> None:
        self._app, self._refusals = app, refusals
        self._requests = self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer 503."""
        if scope["type"] != "http" or scope["path"] in NOT_COUNTED:
            await self._app(scope, receive, send)
            return
        if self._requests >= MAX_REQUESTS:
            sentence = f"{MAX_REQUESTS} requests are being answered; ask again in a moment."
            self._refusals.busy.happened(f"The page refuses requests: {sentence}")
            refusal = problem_response(503, sentence, {"Retry-After": "5"}, path=scope["path"])
            await refusal(scope, receive, send)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            more = len(message.get("body", b""))
            received, self._bytes = received + more, self._bytes + more
            if self._bytes > MAX_BODIES_BYTES:
                most = MAX_BODIES_BYTES >> 20
                sentence = f"The requests that are being answered have over {most} MiB; ask again in a moment."
                self._refusals.busy.happened(f"The page refuses a request: {sentence}")
                raise HTTPException(503, sentence, {"Retry-After": "5"})
            return message

        self._requests += 1
        try:
            # No route reads the body of a GET; what comes of it is dropped.
            await self._app(scope, receive if scope["method"] in SAFE_METHODS else bounded, send)
        finally:
            self._requests -= 1
            self._bytes -= received
