"""Tests that every remembered event can be reached page by page, filtered by its label, while new events come."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.delivery.inspect import newest_events
from edge.events import Event, Label
from edge.interfaces.web import events_page
from tests.interfaces.web.box import Box, has, running

LABELS = ("cat", "Dog", "Straße", "unknown")


def event(number: int, time: str = "", label: str = "") -> Event:
    label = label or LABELS[number % len(LABELS)]
    time = time or f"2026-11-22T10:{number // 60:02d}:{number % 60:02d}.000Z"
    top = (Label(label, 86.0, 1),)
    return Event(f"porch-old-0000001-{number:06d}", "porch", "change", time, True, "old", 1.0, label, top, "m", {})


@pytest.fixture
def box() -> Iterator[Box]:
    with running() as started:
        assert has(started.recent.latest)
        yield started


def page(box: Box, address: str, **params: Any) -> tuple[list[str], str | None]:
    """The ids on a page, and the address of the next one."""
    answer = box.client.get(address, params=params or None)
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["events"]], answer.json()["next"]


def walk(box: Box, **params: Any) -> list[list[str]]:
    """Every page."""
    ids, following = page(box, "/api/events", **params)
    pages = [ids]
    while following:
        ids, following = page(box, following)
        pages.append(ids)
    return pages


def whole(pages: list[list[str]]) -> list[str]:
    return [id_ for ids in reversed(pages) for id_ in ids]


@pytest.mark.parametrize("limit", [1, 7, 50, 1000])
def test_the_pages_together_are_every_event_once_in_order(box: Box, limit: int) -> None:
    box.logged[:] = [event(n) for n in range(50)]
    pages = walk(box, limit=limit)
    newest = box.recent.latest()
    assert newest is not None
    assert whole(pages) == [one.id for one in box.logged] + [newest.id]
    assert all(len(ids) <= limit for ids in pages)


def test_events_that_come_meanwhile_move_no_page(box: Box) -> None:
    box.logged[:] = [event(n) for n in range(20)]
    first, following = page(box, "/api/events", limit=5)
    seen = [first]
    for number in range(100, 110):
        box.recent.add(event(number, time=f"2036-01-01T00:00:00.{number}Z"))
        if following:
            ids, following = page(box, following)
            seen.append(ids)
    assert following is None
    assert whole(seen)[:-1] == [one.id for one in box.logged]


def test_a_page_stays_valid_when_its_events_are_delivered_and_after_a_restart(box: Box) -> None:
    box.logged[:] = [event(n) for n in range(20)]
    _, following = page(box, "/api/events", limit=5)
    assert following is not None
    del box.logged[3:]  # those after them were delivered
    with running() as restarted:
        restarted.logged[:] = box.logged
        assert page(restarted, following) == (["porch-old-0000001-000000", *[one.id for one in box.logged[1:]]], None)


@pytest.mark.parametrize(
    ("label", "found"),
    [("cat", 0), ("CAT", 0), (" dog ", 1), ("strasse", 2), ("Unknown", 3), ("ca", None)],
)
def test_only_events_of_a_label_are_returned_whatever_its_case(box: Box, label: str, found: int | None) -> None:
    box.logged[:] = [event(n) for n in range(40)]
    expected = [] if found is None else [one.id for one in box.logged[found::4]]
    assert whole(walk(box, label=label, limit=3)) == expected
    assert whole(walk(box, label=label, limit=3, since="2026-11-22T10:00:19Z")) == expected[5:]


def test_a_rare_label_of_a_long_log_is_found_although_a_page_reads_a_part_only(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_page, "MAX_EVENTS", 10)
    monkeypatch.setattr(events_page, "MAX_PARTS", 2)
    box.logged[:] = [event(n, label="owl" if n in (3, 70, 71) else "cat") for n in range(100)]
    pages = walk(box, label="owl", limit=2)
    assert whole(pages) == [box.logged[n].id for n in (3, 70, 71)]
    assert [] in pages, "a page without events is not the last one"


@pytest.mark.parametrize(
    "query",
    ["before=", "before=x", "before=porch-old-0000001-000001", "before=2026-11-22T10:00:00.000Z", "label=",
     "before=2026-11-22T10:00:00.000Z_a%00b", "before=2026-11-22T10:00:00.000Z_" + "a" * 300, "limit=1001"],
)  # fmt: skip
def test_a_cursor_that_no_page_gave_is_refused(box: Box, query: str) -> None:
    answer = box.client.get(f"/api/events?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert query.partition("=")[0] in answer.json()["detail"]


def test_the_log_is_read_by_the_events_own_times(tmp_path: Path) -> None:
    """Before the clock is set, later events have earlier times."""
    from edge.delivery.log_file import LogFile

    times = ["2026-11-22T10:00:00.000Z", "1970-01-01T00:00:09.000Z", "2026-11-22T10:00:02.000Z"]
    file = LogFile(tmp_path / "log.db", 1 << 20)
    with file.transaction():
        for number, time in enumerate(times):
            payload = event(number, time=time).to_json().encode()
            file.connection.execute("INSERT INTO events (crc, payload) VALUES (0, ?)", (payload,))
        file.connection.execute("INSERT INTO events (crc, payload) VALUES (0, ?)", (b"\xff{not JSON",))
    file.close()
    found = newest_events(tmp_path / "log.db", 10)
    assert [one.time for one in found] == sorted(times)
    assert [one.time for one in newest_events(tmp_path / "log.db", 1, "2026-11-22T10:00:01.000Z")] == [times[0]]
    assert [one.time for one in newest_events(tmp_path / "log.db", 9, times[1])] == [times[1]]


def test_a_cursor_has_digits_of_ascii(box: Box) -> None:
    arabic = "2026-01-01T00:00:00.000Z_!".replace("2", "\u0662")
    assert box.client.get("/api/events", params={"before": arabic}).status_code == 422
    assert box.client.get("/api/events", params={"since": "\u0662026-01-01T00:00:00Z"}).status_code == 422
