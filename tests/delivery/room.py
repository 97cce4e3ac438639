"""Runs delivery in the test's process, or as a process that can be killed."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.delivery.delivery import Delivery
from edge.delivery.inspect import stored_events, summarise
from edge.events import event_ids
from edge.settings.schema import FallbackSettings, MqttSettings
from edge.status.snapshot import Status
from tests.broker import eventually
from tests.delivery.driver import BOOT, DEVICE, make_event
from tests.delivery.driver import run as run_driver

CHECKOUT = Path(__file__).parent.parent.parent
MAX_BYTES = 268_435_456


class Room:
    """A delivery stage, the events given to it, and its status."""

    def __init__(
        self, url: str, log: Path, *, run: int = 1, replay_per_s: float = 0.0, max_bytes: int = MAX_BYTES, **mqtt: Any
    ) -> None:
        self.log = log
        self.status = Status()
        self.made: list[str] = []
        self._ids = event_ids(DEVICE, BOOT, run)
        self.delivery = Delivery(
            MqttSettings(url=url, **mqtt),
            FallbackSettings(path=log, max_bytes=max_bytes, replay_per_s=replay_per_s),
            *(DEVICE, BOOT, self.status),
        )

    def say(self, count: int = 1, **fields: Any) -> list[str]:
        """Make events and hand them over; returns their ids."""
        ids = []
        for _ in range(count):
            event = make_event(self._ids, **fields)
            self.delivery.put(event)
            ids.append(event.id)
        self.made += ids
        return ids

    def counter(self, name: str) -> int:
        return self.status.snapshot().counters.get(name, 0)

    def gauge(self, name: str) -> Any:
        return self.status.snapshot().gauges.get(name)

    def wait_online(self) -> None:
        eventually(lambda: self.gauge("broker") == "online", "the delivery room is connected")

    def wait_stored(self, count: int) -> None:
        eventually(lambda: self.gauge("log_depth") == count, f"{count} events are in the log")

    def wait_published(self, count: int) -> None:
        eventually(lambda: self.counter("events_published") == count, f"{count} events are acknowledged")

    def stored_ids(self) -> list[str]:
        return stored_ids(self.log)


@contextmanager
def room(url: str, log: Path, **options: Any) -> Iterator[Room]:
    """A started `Room` that is stopped at the end."""
    made = Room(url, log, **options)
    made.delivery.start()
    try:
        yield made
    finally:
        made.delivery.stop(5.0)


def stored_ids(log: Path) -> list[str]:
    """The ids of the events in a log, oldest first."""
    return [json.loads(payload)["id"] for payload in stored_events(log, MAX_BYTES)]


def depth(log: Path) -> int:
    return summarise(log, MAX_BYTES).events


class Driver:
    """Delivery as a separate process, made by fork because that is fast."""

    def __init__(self, url: str, directory: Path, run: int = 0, **options: Any) -> None:
        self.made_file = directory / f"made-{run}"
        self.log = directory / "state" / "fallback.db"
        self.errors = directory / f"stderr-{run}"
        self.killed_at: float | None = None
        arguments = [f"--url={url}", f"--state={self.log.parent}", f"--made={self.made_file}"]
        arguments += [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.delivery.driver"])
        self._process = context.Process(target=run_driver, args=(arguments, self.errors))
        self._process.start()

    def made(self) -> dict[str, float]:
        """Id → when it was made, in monotonic seconds, for every event that was handed over."""
        if not self.made_file.exists():
            return {}
        lines = self.made_file.read_text().splitlines()
        return {event: float(at) for at, event in (line.split() for line in lines if line.count(" ") == 1)}

    def wait_made(self, count: int) -> None:
        eventually(lambda: len(self.made()) >= count, f"{count} events are made")

    def wait_stored(self, count: int) -> None:
        eventually(lambda: self.log.exists() and depth(self.log) >= count, f"{count} events are in the log")

    def kill(self) -> None:
        """Send SIGKILL."""
        self.killed_at = time.monotonic()
        self._process.kill()
        self._process.join(10)

    def terminate(self, deadline_s: float = 30.0) -> dict[str, Any]:
        """Send SIGTERM; returns its last status and how long it took to end."""
        began = time.monotonic()
        self._process.terminate()
        self._process.join(deadline_s)
        took = time.monotonic() - began
        assert self._process.exitcode == 0, (self._process.exitcode, self.errors.read_text()[-3000:])
        status: dict[str, Any] = json.loads(self.made_file.with_suffix(".status").read_text())
        return {**status, "took_s": took}

    def close(self) -> None:
        if self._process.is_alive():
            self.kill()
        self._process.close()


@contextmanager
def driver(url: str, directory: Path, run: int = 0, **options: Any) -> Iterator[Driver]:
    """A running driver that is killed after the test."""
    process = Driver(url, directory, run, **options)
    try:
        yield process
    finally:
        process.close()
