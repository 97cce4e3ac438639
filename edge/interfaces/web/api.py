"""The routes that only read: events, status, model, pictures, health, metrics."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, BeforeValidator, Field

from edge.errors import StateError
from edge.events import Event, isoformat_utc
from edge.interfaces.web.history import History
from edge.interfaces.web.live import status_document
from edge.interfaces.web.picture import Camera
from edge.interfaces.web.problems import ProblemError, documented
from edge.interfaces.web.view import View

MAX_EVENTS = 1000


def _is_date_time(text: object) -> object:
    # Pydantic also takes seconds since 1970, which RFC 3339 and our OpenAPI document do not know.
    if isinstance(text, str) and not re.match(r"\d{4}-\d\d-\d\d[Tt ]", text):
        raise ValueError("must be a time such as 2026-11-22T10:15:30Z")
    return text


Since = Annotated[
    datetime | None, BeforeValidator(_is_date_time), Query(description="later than this; UTC where no offset is given")
]


class EventsOut(BaseModel):
    """Events, oldest first."""

    events: list[Event]


class ReadyOut(BaseModel):
    """What readiness and liveness answer."""

    status: str


class AbsenceOut(BaseModel):
    """A time in which the camera delivered nothing, as Unix time."""

    since: float
    until: float | None = Field(description="null: it still delivers nothing")


class HistoryOut(BaseModel):
    """The last hour: a point each 10 s, the labels that were said, and when there was nothing to say."""

    points: list[dict[str, float | None]]
    states: list[dict[str, Any]]
    away: list[AbsenceOut]


def events_since(view: View, since: datetime | None, limit: int) -> list[Event]:
    """The newest `limit` events after `since`, of this run's memory and of the fallback log, oldest first."""
    moment = ""
    if since is not None:
        aware = since if since.tzinfo else since.replace(tzinfo=timezone.utc)
        try:
            moment = isoformat_utc(aware.timestamp())
        except (OverflowError, ValueError):  # the year 0 or 10000, once turned to UTC
            raise ProblemError(422, "since is beyond the years that a calendar has.") from None
    try:
        known = {event.id: event for event in view.logged(limit)}
    except StateError as error:
        raise ProblemError(503, str(error)) from error
    known |= {numbered.event.id: numbered.event for numbered in view.recent.after(0)}
    # All times are UTC in one format, so they sort as text; ids of one run do, too.
    chosen = sorted((e for e in known.values() if e.time > moment), key=lambda e: (e.time, e.id))
    return chosen[-limit:]


def make_router(view: View, history: History, camera: Camera, registry: CollectorRegistry) -> APIRouter:
    """The reading routes; plain functions run in FastAPI's threads."""
    router = APIRouter()
    _add_api(router, view, history)
    _add_picture(router, camera)
    _add_probes(router, view, registry)
    return router


def _add_api(router: APIRouter, view: View, history: History) -> None:
    @router.get(
        "/api/latest",
        summary="The newest event",
        tags=["camera"],
        response_model=Event,
        responses=documented(401, 403, 404),
    )
    def latest() -> Event:
        event = view.recent.latest()
        if event is None:
            raise ProblemError(404, "There is no event yet; the camera has not delivered a frame.")
        return event

    @router.get(
        "/api/events",
        summary="Events from memory and from the fallback log",
        tags=["camera"],
        response_model=EventsOut,
        responses=documented(401, 403, 422, 503),
    )
    def events(
        since: Since = None,
        limit: Annotated[int, Query(ge=1, le=MAX_EVENTS, description="the newest so many")] = 100,
    ) -> EventsOut:
        return EventsOut(events=events_since(view, since, limit))

    @router.get(
        "/api/status", summary="Health: counters, gauges and latencies", tags=["health"], responses=documented(401, 403)
    )
    def status() -> dict[str, Any]:
        return status_document(view, history)

    @router.get("/api/model", summary="The model and its checksums", tags=["health"], responses=documented(401, 403))
    def model() -> dict[str, Any]:
        return dict(view.model())

    @router.get(
        "/api/history",
        summary="The last hour, for plots",
        tags=["camera"],
        response_model=HistoryOut,
        responses=documented(401, 403),
    )
    def last_hour() -> dict[str, Any]:
        states = [
            {"time": e.time, "label": e.label, "reason": e.reason, "top": e.to_dict()["top"]}
            for e in view.recent.states()
        ]
        return {"points": history.points(), "states": states, "away": history.away()}


def _add_picture(router: APIRouter, camera: Camera) -> None:
    @router.get(
        "/snapshot.jpg",
        summary="The newest frame",
        tags=["camera"],
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}, "description": "JPEG"}, **documented(401, 403, 503)},
    )
    def snapshot() -> Response:
        content = camera.jpeg()
        if content is None:
            raise ProblemError(503, "The camera delivers no frames; see /api/status.", {"Retry-After": "2"})
        return Response(content, media_type="image/jpeg")


def _add_probes(router: APIRouter, view: View, registry: CollectorRegistry) -> None:
    @router.get("/healthz", summary="Whether the daemon answers", tags=["health"], response_model=ReadyOut)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get(
        "/readyz",
        summary="Whether frames become labels",
        tags=["health"],
        response_model=ReadyOut,
        responses=documented(503),
    )
    async def readyz() -> dict[str, str]:
        snapshot = view.status()
        if snapshot.gauges.get("camera") == "waiting":
            raise ProblemError(503, str(snapshot.gauges.get("camera_error") or "The camera delivers no frames yet."))
        if not snapshot.counters.get("frames_classified"):
            raise ProblemError(503, "No frame has been classified yet.")
        return {"status": "ready"}

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        tags=["health"],
        response_class=PlainTextResponse,
        responses=documented(401, 403),
    )
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
