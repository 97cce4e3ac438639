"""Counts requests by route, method and status, for the metrics."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

import fastapi.routing
from fastapi import FastAPI
from starlette.routing import BaseRoute, Mount, compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.interfaces.web.refusals import Refusals

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
OTHER = "other"  # a path or method that strangers made up: however many there are, they are one series


def templates_of(app: FastAPI) -> dict[str, re.Pattern[str]]:
    """The paths of all routes, such as `/v2/models/{name}`, with the expression that such a path matches."""
    # Newer versions of FastAPI keep the routes of a router apart; before, `routes` has all of them.
    contexts: Callable[[list[BaseRoute]], Iterable[Any]] = getattr(fastapi.routing, "iter_route_contexts", iter)
    found = {}
    for context in contexts(app.routes):
        mounted = isinstance(getattr(context, "route", context), Mount)
        expression, name, _ = compile_path(context.path + "/{path:path}" if mounted else context.path)
        found[name] = expression
    return found


class RequestCount:
    """ASGI middleware outside of all others, so that what they refuse is counted too.

    Args:
        app: the application that answers.
        templates: of the application.
        counts: (route, method, status) → requests; a stream counts as soon as it begins.
        refusals: counts requests that come too often.
    """

    def __init__(
        self,
        app: ASGIApp,
        templates: Mapping[str, re.Pattern[str]],
        counts: Counter[tuple[str, ...]],
        refusals: Refusals,
    ) -> None:
        self._app, self._templates, self._counts, self._refusals = app, templates, counts, refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and count it with its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._count(scope, status)
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception:
            if not status:  # otherwise the answer had begun
                self._count(scope, HTTPStatus.INTERNAL_SERVER_ERROR)  # which Starlette answers outside of this
            raise

    def _count(self, scope: Scope, status: int) -> None:
        method = scope["method"] if scope["method"] in METHODS else OTHER
        self._counts[self._route(scope), method, str(int(status))] += 1
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self._refusals.too_many += 1

    def _route(self, scope: Scope) -> str:
        return next((name for name, path in self._templates.items() if path.match(scope["path"])), OTHER)
