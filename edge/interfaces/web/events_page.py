"""`/api/events`: the events that the box remembers, page by page, from the newest back to the oldest.

A page's cursor is the time and the id of its oldest event. New events do not move it, and it stays valid when that
event is forgotten, also over a restart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, BeforeValidator, Field

from edge.errors import StateError
from edge.events import Event, isoformat_utc
from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.problem_details import documented

MAX_EVENTS = 1000
MAX_PARTS = 10  # of MAX_EVENTS of the fallback log that are read for one page
CURSOR = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z_[!-~]{1,200}$"
_Key = tuple[str, str]  # all times are UTC in one format, and so are the ids of one run: both sort as text


def _is_date_time(text: object) -> object:
    # Pydantic would also accept seconds since 1970, which the OpenAPI document's format date-time does not.
    if isinstance(text, str) and not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]", text):
        raise ValueError("must be a time such as 2026-11-22T10:15:30Z")
    return text


Since = Annotated[
    datetime | None, BeforeValidator(_is_date_time), Query(description="later than this; UTC where no offset is given")
]
Before = Annotated[str | None, Query(pattern=CURSOR, description="the cursor of a page: only what is earlier")]
Wanted = Annotated[str | None, Query(min_length=1, description="only events with this label; case does not matter")]
Limit = Annotated[int, Query(ge=1, le=MAX_EVENTS, description="at most so many events, the newest ones")]


class EventsOut(BaseModel):
    """Events, oldest first."""

    events: list[Event]
    next: str | None = Field(description="the address of the page with the events before these; null: there are none")


@dataclass(frozen=True, slots=True)
class _Question:
    since: str  # "" for the beginning
    before: _Key | None
    label: str  # casefolded; "" for every label
    limit: int

    def wants(self, event: Event) -> bool:
        if self.before is not None and _key(event) >= self.before:
            return False
        return event.time > self.since and self.label in ("", event.label.casefold())


def _key(event: Event) -> _Key:
    return event.time, event.id


def _page(daemon: DaemonAccess, question: _Question) -> tuple[list[Event], _Key | None]:
    """The newest wanted events, oldest first, and the cursor for those before them; None if there are none.

    Raises:
        StateError: the fallback log cannot be read.
    """
    found = {numbered.event.id: numbered.event for numbered in daemon.recent.after(0)}
    found = {id_: event for id_, event in found.items() if question.wants(event)}
    part_size = MAX_EVENTS if question.label else question.limit + 1
    read_back_to = question.before[0] if question.before else ""  # of the log, everything since this time is known
    more = True
    for _ in range(MAX_PARTS):
        part = daemon.logged(part_size, read_back_to)
        oldest = min((event.time for event in part), default=read_back_to)
        found |= {event.id: event for event in part if question.wants(event)}
        more = oldest != read_back_to and oldest > question.since
        read_back_to = oldest
        if not more or sum(event.time >= oldest for event in found.values()) > question.limit:
            break
    chosen = sorted((event for event in found.values() if not more or event.time >= read_back_to), key=_key)
    if len(chosen) > question.limit:
        chosen = chosen[-question.limit :]
        return chosen, _key(chosen[0])
    return chosen, (read_back_to, "!") if more else None


def _moment(since: datetime | None) -> str:
    if since is None:
        return ""
    aware = since if since.tzinfo else since.replace(tzinfo=timezone.utc)
    try:
        return isoformat_utc(aware.timestamp())
    except (OverflowError, ValueError):  # the conversion to UTC leads to the year 0 or 10000
        raise HTTPException(422, "since must be within the years 1 to 9999.") from None


def make_router(daemon: DaemonAccess) -> APIRouter:
    """The route of `/api/events`; it runs in a thread, because the log is read from the disk."""
    router = APIRouter()

    @router.get(
        "/api/events",
        summary="Events from memory and from the fallback log",
        tags=["camera"],
        responses=documented(401, 403, 422, 503),
    )
    def events(since: Since = None, before: Before = None, label: Wanted = None, limit: Limit = 100) -> EventsOut:
        time, _, id_ = (before or "").partition("_")
        wanted = (label or "").strip()
        question = _Question(_moment(since), (time, id_) if before else None, wanted.casefold(), limit)
        try:
            found, cursor = _page(daemon, question)
        except StateError as error:
            raise HTTPException(503, str(error)) from error
        if cursor is None:
            return EventsOut(events=found, next=None)
        fields = {"since": question.since, "label": wanted, "limit": limit, "before": "_".join(cursor)}
        return EventsOut(events=found, next=f"/api/events?{urlencode({k: v for k, v in fields.items() if v})}")

    return router
