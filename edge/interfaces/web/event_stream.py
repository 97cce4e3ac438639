"""`/api/stream`: server-sent events that keep the page up to date."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from collections.abc import AsyncGenerator
from typing import Any

from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.history import History
from edge.interfaces.web.log_lines import LogLines
from edge.interfaces.web.problem_details import ProblemError

MAX_LISTENERS = 16
EVERY_S = 0.25
STATUS_EVERY_S = 2.0
FIRST_LINES = 50


class EventStream:
    """Makes the messages of each listener; runs in the web server's event loop.

    Args:
        daemon: source of the events, the top-3 and the status.
        history: source of the frame rate.
        log_lines: the last lines of the log.
        stopping: ends every stream once set.
    """

    def __init__(self, daemon: DaemonAccess, history: History, log_lines: LogLines, stopping: threading.Event) -> None:
        self._daemon, self._history, self._log_lines, self._stopping = daemon, history, log_lines, stopping
        self._listeners = 0

    async def messages(self) -> AsyncGenerator[str, None]:
        """`top`, `status`, `event` and `log` messages for one listener, until the daemon stops.

        Raises:
            ProblemError: there are `MAX_LISTENERS` already; raised before the first message.
        """
        if self._listeners >= MAX_LISTENERS:
            raise ProblemError(429, f"{MAX_LISTENERS} pages listen already.", {"Retry-After": "10"})
        self._listeners += 1
        try:
            yield "retry: 2000\n\n"
            newest = self._daemon.recent.after(0)
            event_number = newest[-1].number if newest else 0
            lines = self._log_lines.after(0)
            line_number = lines[-1].number - FIRST_LINES if lines else 0
            top: list[Any] | None = None  # not []: a page that reconnects may still show old labels
            camera: Any = None
            status_at = float("-inf")
            while not self._stopping.is_set():
                now = time.monotonic()
                status = self._history.status_document()
                if now - status_at >= STATUS_EVERY_S or status.get("camera") != camera:
                    status_at, camera = now, status.get("camera")
                    yield _message("status", status)
                # While the camera is away the last labels are out of date.
                newest_top = [dataclasses.asdict(label) for label in self._daemon.top()] if camera == "online" else []
                if newest_top != top:
                    top = newest_top
                    yield _message("top", {"top": top})
                for numbered in self._daemon.recent.after(event_number):
                    event_number = numbered.number
                    yield _message("event", numbered.event.to_dict())
                for line in self._log_lines.after(line_number):
                    line_number = line.number
                    yield _message("log", dataclasses.asdict(line))
                await asyncio.sleep(EVERY_S)
        finally:
            self._listeners -= 1


def _message(kind: str, document: dict[str, Any]) -> str:
    # JSON without indentation has no line breaks, so one data line is enough.
    return f"event: {kind}\ndata: {json.dumps(document, ensure_ascii=False, separators=(',', ':'), default=str)}\n\n"
