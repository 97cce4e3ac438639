"""The web application: routes, page, access control and OpenAPI document put together."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread
from fastapi import FastAPI

from edge import __version__
from edge.interfaces.web import (
    api,
    event_stream,
    events_page,
    kserve,
    live_picture,
    metrics,
    page,
    predict,
    problem_details,
)
from edge.interfaces.web.access_control import AccessControl
from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.head import Head
from edge.interfaces.web.history import SAMPLE_S, History
from edge.interfaces.web.log_lines import LogLines
from edge.interfaces.web.predictor import Predictor
from edge.interfaces.web.refusals import Refusals
from edge.interfaces.web.request_count import RequestCount, templates_of
from edge.interfaces.web.request_limit import RequestLimit
from edge.interfaces.web.wrong_tokens import WrongTokens

# For routes that block, such as encoding a frame; more threads would take processor time from the camera.
THREADS = 4


def make_app(
    daemon: DaemonAccess,
    history: History,
    log_lines: LogLines,
    refusals: Refusals,
    *,
    token: str,
    stream: bool,
    stopping: threading.Event,
) -> FastAPI:
    """The whole web application.

    Args:
        daemon: the parts of the daemon that the routes use.
        history: the last hour; the app samples it from now on.
        log_lines: the last lines of the log.
        refusals: logs what is refused.
        token: required of clients; "" for none.
        stream: whether /stream.mjpg is on.
        stopping: once set, streams end.
    """
    predictor = Predictor(daemon)
    wrong_tokens = WrongTokens(refusals)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        sampling = asyncio.create_task(_sample(history, refusals))
        yield
        sampling.cancel()
        predictor.close()

    app = FastAPI(
        title="edge-classifier",
        version=__version__,
        description="The labels of the camera's frames, and of photos that you send.",
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    problem_details.install(app)
    app.include_router(predict.make_router(predictor, daemon))
    app.include_router(kserve.make_router(predictor, daemon))
    app.include_router(api.make_router(daemon, history))
    app.include_router(events_page.make_router(daemon))
    app.include_router(event_stream.make_router(daemon, history, log_lines, stopping))
    app.include_router(live_picture.make_router(daemon, stream, stopping))
    requests: Counter[tuple[str, ...]] = Counter()  # by route, method and status
    app.include_router(metrics.make_router(daemon, requests, refusals))
    page.add(app, token, wrong_tokens)
    _describe(app, token)
    app.add_middleware(RequestLimit, refusals=refusals)
    app.add_middleware(AccessControl, token=token, wrong_tokens=wrong_tokens)
    app.add_middleware(Head)
    # The last one added is passed first.
    app.add_middleware(RequestCount, templates=templates_of(app), counts=requests, refusals=refusals)
    return app


async def _sample(history: History, refusals: Refusals) -> None:
    while True:
        history.sample()
        refusals.settle()
        await asyncio.sleep(SAMPLE_S)


def _describe(app: FastAPI, token: str) -> None:
    """Add the problem schema and the authentication to the OpenAPI document."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document["components"]["schemas"]["Problem"] = problem_details.Problem.model_json_schema()
        document["components"]["schemas"] |= kserve.request_schemas()
        if token:
            document["components"]["securitySchemes"] = {
                "token": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic", "description": "any user, the token as the password"},
            }
            document["security"] = [{"token": []}, {"password": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it
