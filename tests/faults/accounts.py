"""The account with which every fault ends: made = delivered + still in the log + dropped and counted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.broker import Subscriber, eventually
from tests.delivery.room import Driver, stored_ids


def received(subscriber: Subscriber) -> set[str]:
    """The ids that really arrived, on whichever topic an event may."""
    return set(subscriber.ids("event")) | set(subscriber.ids("replay"))


def account(made: Iterable[str], subscriber: Subscriber, log: Path, dropped: int = 0) -> None:
    """Event by event: each one made arrived, or waits, or is counted as dropped; and nobody invented one."""
    made = set(made)
    waiting = set(stored_ids(log)) if log.exists() else set()

    def missing() -> set[str]:
        return made - received(subscriber) - waiting

    eventually(lambda: len(missing()) <= dropped, f"at most {dropped} events missing")
    assert len(missing()) == dropped, f"{dropped} are counted as dropped, {len(missing())} are"
    assert received(subscriber) | waiting <= made, "an event that nobody made"


def account_of_kills(processes: Iterable[Driver], subscriber: Subscriber, within_s: float) -> int:
    """After kills an event may be missing that was made less than `within_s` before one.

    Returns:
        How many are missing so.
    """
    processes = list(processes)
    made = {event: at for process in processes for event, at in process.made().items()}
    killed = {event: process.killed_at for process in processes for event in process.made()}
    late = {event for event, at in made.items() if (end := killed[event]) is not None and at > end - within_s}
    eventually(lambda: set(made) - late <= received(subscriber), "every event made in time")
    arrived = received(subscriber)
    # The record is written after the event was handed over: a kill between the two leaves one event out of it.
    assert len(arrived - set(made)) <= len(processes), "events that nobody made"
    return len(set(made) - arrived)
