"""The routes that read the newest event, the status, the model and the last hour, and the two probes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, Field

from edge.events import Event
from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.documents import ModelOut, StatusOut
from edge.interfaces.web.history import History
from edge.interfaces.web.json_answer import JsonAnswer
from edge.interfaces.web.problem_details import documented


class ReadyOut(BaseModel):
    """The answer of the two probes."""

    status: str


class AbsenceOut(BaseModel):
    """A time in which the camera delivered no frames, as Unix time."""

    since: float
    until: float | None = Field(description="null: it does not deliver frames yet")


class ClassOut(BaseModel):
    """One class of the model."""

    index: int = Field(ge=0)
    label: str


class LabelsOut(BaseModel):
    """Every class of the model, by index."""

    model: str = Field(description="the bundle in use")
    labels: list[ClassOut]


class HistoryOut(BaseModel):
    """The last hour: a point each 10 s, the labels, and when the camera delivered no frames."""

    points: list[dict[str, float | None]]
    states: list[dict[str, Any]]
    away: list[AbsenceOut]


def make_router(daemon: DaemonAccess, history: History) -> APIRouter:
    """The reading routes. Those that are plain functions run in a thread and may block."""
    router = APIRouter()
    _add_latest(router, daemon)
    _add_state(router, daemon, history)
    _add_probes(router, daemon)
    return router


def _add_latest(router: APIRouter, daemon: DaemonAccess) -> None:
    @router.get("/api/latest", summary="The newest event", tags=["camera"], responses=documented(401, 403, 404))
    def latest() -> Event:
        event = daemon.recent.latest()
        if event is None:
            raise HTTPException(404, "There is no event yet; the camera has not delivered a frame.")
        return event


def _add_state(router: APIRouter, daemon: DaemonAccess, history: History) -> None:
    @router.get(
        "/api/status",
        summary="Health: counters, gauges and latencies",
        tags=["health"],
        response_model=StatusOut,
        responses=documented(401, 403),
    )
    def status() -> Response:
        return JsonAnswer(history.status_document())

    @router.get(
        "/api/model",
        summary="The model and its checksums",
        tags=["health"],
        response_model=ModelOut,
        responses=documented(401, 403),
    )
    def model() -> Response:
        return JsonAnswer(dict(daemon.model()))

    @router.get(
        "/api/labels",
        summary="The classes of the model",
        tags=["photos"],
        response_model=LabelsOut,
        responses={304: {"description": "Not changed since the answer with this ETag"}, **documented(401, 403)},
    )
    def labels(request: Request) -> Response:
        name, classes = daemon.labels()
        headers = {"ETag": f'"{name}"'}  # a bundle is named after its content
        known = request.headers.get("if-none-match", "")
        if known.strip() == "*" or headers["ETag"] in known:
            return Response(status_code=304, headers=headers)
        found = [ClassOut(index=index, label=label) for index, label in enumerate(classes)]
        return JsonAnswer(LabelsOut(model=name, labels=found).model_dump(), headers=headers)

    @router.get("/api/history", summary="The last hour, for plots", tags=["camera"], responses=documented(401, 403))
    def last_hour() -> HistoryOut:
        states = [
            {"time": e.time, "label": e.label, "reason": e.reason, "top": e.to_dict()["top"]}
            for e in daemon.recent.states()
        ]
        return HistoryOut.model_validate({"points": history.points(), "states": states, "away": history.away()})


def _add_probes(router: APIRouter, daemon: DaemonAccess) -> None:
    @router.get("/healthz", summary="Whether the daemon answers", tags=["health"])
    async def healthz() -> ReadyOut:
        return ReadyOut(status="ok")

    @router.get("/readyz", summary="Whether frames become labels", tags=["health"], responses=documented(503))
    async def readyz() -> ReadyOut:
        snapshot = daemon.status()
        if snapshot.gauges.get("camera") == "waiting":
            raise HTTPException(503, str(snapshot.gauges.get("camera_error") or "The camera delivers no frames yet."))
        if not snapshot.counters.get("frames_classified"):
            raise HTTPException(503, "No frame has been classified yet.")
        return ReadyOut(status="ready")
