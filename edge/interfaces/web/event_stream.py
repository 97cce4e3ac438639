"""`/api/stream`: server-sent events that keep the page up to date."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import StreamingResponse

from edge.interfaces.web.closing_stream import ClosingStream
from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.history import History
from edge.interfaces.web.log_lines import LogLines
from edge.interfaces.web.problem_details import documented

MAX_LISTENERS = 16
EVERY_S = 0.25
STATUS_EVERY_S = 2.0
FIRST_LINES = 100  # as many as the page keeps, so that a tab that was hidden misses none


def make_router(daemon: DaemonAccess, history: History, log_lines: LogLines, stopping: threading.Event) -> APIRouter:
    """The route of `/api/stream`.

    Args:
        daemon: source of the events, the top-3 and the status.
        history: source of the frame rate.
        log_lines: the last lines of the log.
        stopping: ends every stream once set.
    """
    router = APIRouter()
    listeners = asyncio.Semaphore(MAX_LISTENERS)

    @router.get(
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
        messages = one_listener()
        await anext(messages)
        return ClosingStream(messages, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    async def one_listener() -> AsyncGenerator[str, None]:
        if listeners.locked():
            raise HTTPException(429, f"{MAX_LISTENERS} pages listen already.", {"Retry-After": "10"})
        async with listeners:
            yield ""  # taken by `listen`: errors before this become the response, which begins now
            yield "retry: 2000\n\n"
            async for message in _messages(daemon, history, log_lines, stopping):
                yield message

    return router


async def _messages(
    daemon: DaemonAccess, history: History, log_lines: LogLines, stopping: threading.Event
) -> AsyncGenerator[str, None]:
    """`top`, `status`, `event` and `log` messages for one listener, until the daemon stops."""
    newest = daemon.recent.after(0)
    event_number = newest[-1].number if newest else 0
    lines = log_lines.after(0)
    line_number = lines[-1]["number"] - FIRST_LINES if lines else 0
    top: list[Any] | None = None  # not []: a page that reconnects may still show old labels
    camera: Any = None
    status_at = float("-inf")
    while not stopping.is_set():
        now = time.monotonic()
        status = history.status_document()
        if now - status_at >= STATUS_EVERY_S or status.get("camera") != camera:
            status_at, camera = now, status.get("camera")
            yield _message("status", status)
        # While the camera is away the last labels are out of date.
        newest_top = [dataclasses.asdict(label) for label in daemon.top()] if camera == "online" else []
        if newest_top != top:
            top = newest_top
            yield _message("top", {"top": top})
        for numbered in daemon.recent.after(event_number):
            event_number = numbered.number
            yield _message("event", numbered.event.to_dict())
        for line in log_lines.after(line_number):
            line_number = line["number"]
            yield _message("log", line)
        await asyncio.sleep(EVERY_S)


def _message(kind: str, document: dict[str, Any]) -> str:
    # JSON without indentation has no line breaks, so one data line is enough.
    return f"event: {kind}\ndata: {json.dumps(document, ensure_ascii=False, separators=(',', ':'), default=str)}\n\n"
