"""The check with which every fault test ends: made = delivered + still in the log + dropped and counted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.broker import Subscriber, eventually
from tests.delivery.room import Driver, stored_ids


def received(subscriber: Subscriber) -> set[str]:
    """The ids that arrived on any event topic."""
    return set(subscriber.ids("event")) | set(subscriber.ids("replay"))


def account(made: Iterable[str], subscriber: Subscriber, log: Path, dropped: int = 0) -> None:
    """Check that each made event arrived, waits in the log or was counted as dropped, and that none was invented."""
    made = set(made)
    waiting = set(stored_ids(log)) if log.exists() else set()

    def missing() -> set[str]:
        return made - received(subscriber) - waiting

    eventually(lambda: len(missing()) <= dropped, f"at most {dropped} events missing")
    assert len(missing()) == dropped, f"{dropped} are counted as dropped, {len(missing())} are"
    assert received(subscriber) | waiting <= made, "an event that was never made"


def account_of_kills(processes: Iterable[Driver], subscriber: Subscriber, safe: set[str]) -> int:
    """After kills an event may be missing that was not seen on the disk or at the broker before.

    Args:
        safe: what was seen there just before each kill.

    Returns:
        How many others are missing.
    """
    processes = list(processes)
    made = {event for process in processes for event in process.made()}
    safe = safe.union(*(process.made() for process in processes if process.killed_at is None))
    eventually(lambda: safe <= received(subscriber), "every event that was safe before a kill")
    arrived = received(subscriber)
    # The record is written after the event is handed over, so a kill in between leaves one event out.
    assert len(arrived - made) <= len(processes), "events that were never made"
    return len(made - arrived)
