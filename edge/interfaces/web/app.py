"""The web application: routes, page, access control and OpenAPI document put together."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, TypeVar

import anyio.to_thread
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import StreamingResponse

from edge import __version__
from edge.interfaces.web import api, page, predict, problem_details
from edge.interfaces.web.access_control import AccessControl
from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.event_stream import EventStream
from edge.interfaces.web.frame_encoder import BOUNDARY, FrameEncoder
from edge.interfaces.web.history import SAMPLE_S, History
from edge.interfaces.web.log_lines import LogLines
from edge.interfaces.web.metrics import make_registry
from edge.interfaces.web.problem_details import Problem, ProblemError, documented

# For routes that block, such as encoding a frame; more threads would take processor time from the camera.
THREADS = 4
_Piece = TypeVar("_Piece", str, bytes)


def make_app(
    daemon: DaemonAccess, history: History, log_lines: LogLines, token: str, stream: bool, stopping: threading.Event
) -> FastAPI:
    """The whole web application.

    Args:
        daemon: the parts of the daemon that the routes use.
        history: the last hour; the app samples it from now on.
        log_lines: the last lines of the log.
        token: required of clients; "" for none.
        stream: whether /stream.mjpg is on.
        stopping: once set, streams end.
    """
    predictor = predict.Predictor(daemon)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        sampling = asyncio.create_task(_sample(history))
        yield
        sampling.cancel()
        predictor.close()

    app = FastAPI(
        title="edge-classifier",
        version=__version__,
        description="What the box sees, and what it says of your photos.",
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    problem_details.install(app)
    encoder = FrameEncoder(daemon)
    app.include_router(predict.make_router(predictor))
    app.include_router(api.make_router(daemon, history, encoder, make_registry(daemon)))
    _add_event_stream(app, EventStream(daemon, history, log_lines, stopping))
    _add_mjpeg_stream(app, encoder, stream, stopping)
    page.add(app, token)
    _describe(app, token)
    app.add_middleware(AccessControl, token=token)
    return app


async def _sample(history: History) -> None:
    while True:
        history.sample()
        await asyncio.sleep(SAMPLE_S)


def _add_event_stream(app: FastAPI, event_stream: EventStream) -> None:
    @app.get(
        "/api/stream",
        summary="Server-sent events: top, status, event and log",
        tags=["camera"],
        response_class=StreamingResponse,
        responses={
            200: {"content": {"text/event-stream": {}}, "description": "never ends"},
            **documented(401, 403, 429),
        },
    )
    async def listen() -> StreamingResponse:
        messages = await _begun(event_stream.messages())
        return StreamingResponse(messages, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def _add_mjpeg_stream(app: FastAPI, encoder: FrameEncoder, stream: bool, stopping: threading.Event) -> None:
    @app.get(
        "/stream.mjpg",
        summary="The live picture",
        description="Off unless web.stream is true.",
        tags=["camera"],
        response_class=StreamingResponse,
        responses={
            200: {"content": {"multipart/x-mixed-replace": {}}, "description": "never ends"},
            **documented(401, 403, 404, 429, 503),
        },
    )
    async def mjpeg() -> StreamingResponse:
        if not stream:
            raise ProblemError(404, "The live picture is off; set web.stream = true, or use /snapshot.jpg.")
        try:
            parts = await _begun(encoder.stream(stopping))
        except StopAsyncIteration:
            raise ProblemError(503, "The camera delivers no frames; see /api/status.", {"Retry-After": "2"}) from None
        return StreamingResponse(parts, media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY.decode()}")


async def _begun(pieces: AsyncGenerator[_Piece, None]) -> AsyncGenerator[_Piece, None]:
    """`pieces` whose first piece is already made, so that an error in making it becomes the response.

    Raises:
        StopAsyncIteration: there is no piece.
    """
    first = await anext(pieces)

    async def all_pieces() -> AsyncGenerator[_Piece, None]:
        async with contextlib.aclosing(pieces):
            yield first
            async for piece in pieces:
                yield piece

    return all_pieces()


def _describe(app: FastAPI, token: str) -> None:
    """Add the problem schema and the authentication to the OpenAPI document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            components = document.setdefault("components", {})
            components.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
            if token:
                components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
                document["security"] = [{"token": []}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it
