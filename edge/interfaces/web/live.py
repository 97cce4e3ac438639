"""`/api/stream`: server-sent events for the page."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from collections.abc import AsyncGenerator
from typing import Any

from edge.interfaces.web.history import History
from edge.interfaces.web.log_lines import LogLines
from edge.interfaces.web.problems import ProblemError
from edge.interfaces.web.view import View

MAX_LISTENERS = 16
EVERY_S = 0.25
STATUS_EVERY_S = 2.0
FIRST_LINES = 50


class Live:
    """Tells each listener what changed; lives in the web loop.

    Args:
        view: what changes.
        history: the frame rate.
        log_lines: the log.
        stopping: ends every stream.
    """

    def __init__(self, view: View, history: History, log_lines: LogLines, stopping: threading.Event) -> None:
        self._view, self._history, self._log_lines, self._stopping = view, history, log_lines, stopping
        self._listeners = 0

    async def messages(self) -> AsyncGenerator[str, None]:
        """`top`, `status`, `event` and `log` messages; a comment keeps a silent connection alive.

        Raises:
            ProblemError: `MAX_LISTENERS` listen already; raised before the first message.
        """
        if self._listeners >= MAX_LISTENERS:
            raise ProblemError(429, f"{MAX_LISTENERS} pages listen already.", {"Retry-After": "10"})
        self._listeners += 1
        try:
            yield "retry: 2000\n\n"
            newest = self._view.recent.after(0)
            event_number = newest[-1].number if newest else 0
            lines = self._log_lines.after(0)
            line_number = lines[-1].number - FIRST_LINES if lines else 0
            top: list[Any] | None = None  # a page that comes back may still show an old one
            camera: Any = None
            status_at = float("-inf")
            while not self._stopping.is_set():
                now = time.monotonic()
                status = status_document(self._view, self._history)
                if now - status_at >= STATUS_EVERY_S or status.get("camera") != camera:
                    status_at, camera = now, status.get("camera")
                    yield _message("status", status)
                # What was seen last is not what is there now.
                newest_top = [dataclasses.asdict(label) for label in self._view.top()] if camera == "online" else []
                if newest_top != top:
                    top = newest_top
                    yield _message("top", {"top": top})
                for numbered in self._view.recent.after(event_number):
                    event_number = numbered.number
                    yield _message("event", numbered.event.to_dict())
                for line in self._log_lines.after(line_number):
                    line_number = line.number
                    yield _message("log", dataclasses.asdict(line))
                await asyncio.sleep(EVERY_S)
        finally:
            self._listeners -= 1


def status_document(view: View, history: History) -> dict[str, Any]:
    """The status snapshot with the frame rate."""
    return view.status().to_dict() | {"frames_per_s": history.frames_per_s}


def _message(kind: str, document: dict[str, Any]) -> str:
    # JSON has no line breaks of its own, so one data line is enough.
    return f"event: {kind}\ndata: {json.dumps(document, ensure_ascii=False, separators=(',', ':'), default=str)}\n\n"
