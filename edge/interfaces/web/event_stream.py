"""`/api/stream`: server-sent events that keep the page up to date.

A client that reconnects sends the id of the last event that it got as `Last-Event-ID`, as browsers do by themselves. It
gets the events since then, and a message `missed` if some of them are no longer in memory.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException
from fastapi.responses import StreamingResponse

from edge.interfaces.web.closing_stream import ClosingStream
from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.history import History
from edge.interfaces.web.log_lines import LogLines
from edge.interfaces.web.problem_details import documented
from edge.status.recent import Numbered, Recent

MAX_LISTENERS = 16
EVERY_S = 0.25
STATUS_EVERY_S = 2.0
FIRST_LINES = 100  # as many as the page keeps, so that a tab that was hidden misses none
MAX_ID = 200  # characters of a client's id that an answer repeats
LastEventId = Annotated[str | None, Header(description="of the last event that the client got; those since are sent")]


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
        summary="Server-sent events: top, status, event, missed and log",
        tags=["camera"],
        response_class=StreamingResponse,
        responses={
            200: {"content": {"text/event-stream": {}}, "description": "never ends"},
            **documented(401, 403, 422, 429),
        },
    )
    async def listen(last_event_id: LastEventId = None) -> StreamingResponse:
        messages = one_listener(last_event_id or "")
        await anext(messages)
        return ClosingStream(messages, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    async def one_listener(last_id: str) -> AsyncGenerator[str, None]:
        if listeners.locked():
            raise HTTPException(429, f"{MAX_LISTENERS} pages listen already.", {"Retry-After": "10"})
        async with listeners:
            yield ""  # taken by `listen`: errors before this become the response, which begins now
            async for message in _messages(daemon, history, log_lines, stopping, last_id):
                yield message

    return router


async def _messages(
    daemon: DaemonAccess, history: History, log_lines: LogLines, stopping: threading.Event, last_id: str
) -> AsyncGenerator[str, None]:
    """`top`, `status`, `event`, `missed` and `log` messages for one listener, until the daemon stops."""
    events = _Events(daemon.recent, last_id)
    yield f"retry: 2000\n{events.beginning}\n"
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
        for message in events.new():
            yield message
            await asyncio.sleep(0)  # others have their turn, and this ends once the client has left
        for line in log_lines.after(line_number):
            line_number = line["number"]
            yield _message("log", line)
            await asyncio.sleep(0)
        await asyncio.sleep(EVERY_S)


class _Events:
    """The events of one listener.

    Args:
        recent: the events in memory.
        last_id: of the event that the listener got last; "" for a listener that wants new ones only.
    """

    def __init__(self, recent: Recent, last_id: str) -> None:
        self._recent = recent
        kept = recent.after(0)
        self._number = kept[-1].number if kept else 0  # of the last one that was sent
        self._last_id = kept[-1].event.id if kept else ""
        self._missed: list[str] = []
        #: The field that a listener resumes from if the connection breaks before the first event.
        self.beginning = f"id: {self._last_id}\n" if kept and not last_id else ""
        if last_id:
            self._resume(kept, last_id)

    def new(self) -> Iterator[str]:
        """The messages of the events since the last call."""
        missed, self._missed = self._missed, []
        yield from missed
        for numbered in self._recent.after(self._number):
            if (gap := numbered.number - self._number - 1) > 0:  # the listener is so slow that memory was too short
                yield _missed(self._last_id, gap)
            self._number, self._last_id = numbered.number, numbered.event.id
            yield f"id: {self._last_id}\n{_message('event', numbered.event.to_dict())}"

    def _resume(self, kept: list[Numbered], last_id: str) -> None:
        self._last_id = ""
        for numbered in kept:
            if numbered.event.id == last_id:
                self._number, self._last_id = numbered.number, last_id
                return
        self._number = kept[0].number - 1 if kept else 0
        self._missed = [_missed(last_id, _between(last_id, kept[0].event.id) if kept else None)]


def _between(last_id: str, first_id: str) -> int | None:
    """How many events lie between two of one run; None if they are not of one run, or not in this order."""
    (last_run, _, last), (run, _, first) = last_id.rpartition("-"), first_id.rpartition("-")
    if last_run != run or not re.fullmatch(r"[0-9]{1,18}", last) or int(last) >= int(first):
        return None
    return int(first) - int(last) - 1


def _missed(after: str, events: int | None) -> str:
    return _message("missed", {"after": after[:MAX_ID], "events": events})


def _message(kind: str, document: dict[str, Any]) -> str:
    # JSON without indentation has no line breaks, so one data line is enough.
    return f"event: {kind}\ndata: {json.dumps(document, ensure_ascii=False, separators=(',', ':'), default=str)}\n\n"
