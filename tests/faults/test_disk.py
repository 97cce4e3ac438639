"""Tests faults of the state directory (full, read-only, deleted) and of the clock (jumps)."""

import contextlib
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.board.host import disk_bytes_written
from edge.delivery.fallback import Changes, FallbackLog
from edge.events import event_ids
from tests.broker import Brokers, eventually
from tests.delivery.driver import BOOT, DEVICE, make_event
from tests.delivery.room import MAX_BYTES, room, stored_ids
from tests.faults.accounts import account

NOWHERE = "mqtt://127.0.0.1:9"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(place)], check=False).returncode
    ):
        pytest.skip("mounting a file system of 3 MB needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def one_line(caplog: pytest.LogCaptureFixture, words: str) -> None:
    lines = [record.getMessage() for record in caplog.records if words in record.getMessage()]
    assert 1 <= len(lines) <= 2, lines


def test_a_full_disk_keeps_events_in_memory_until_there_is_room(
    brokers: Brokers, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker, subscriber = brokers.prepare_heard()
    (small_disk / "others").write_bytes(b"x" * 2_000_000)
    log = small_disk / "fallback.db"
    with room(broker.url, log) as box:
        box.say(800)
        eventually(lambda: box.gauge("log_error"), "the full disk is noticed")
        assert "make room there" in box.gauge("log_error")
        box.say(100)
        (small_disk / "others").unlink()
        box.wait_stored(900)
        assert not box.gauge("log_error")
        broker.start()
        eventually(lambda: box.gauge("log_depth") == 0, "the log is empty")
        account(box.made, subscriber, log)
        assert box.counter("events_dropped") == 0
    one_line(caplog, "cannot be used")
    one_line(caplog, "can be used again")


def test_a_disk_of_three_megabytes_and_more_events_than_it_holds(brokers: Brokers, small_disk: Path) -> None:
    """What does not fit on the disk stays in memory, up to its limit; beyond it the oldest are dropped and counted."""
    broker, subscriber = brokers.prepare_heard()
    log = small_disk / "fallback.db"
    with room(broker.url, log) as box:
        for _ in range(24):
            box.say(1000)
            box.delivery.flush(10.0)
        broker.start()
        eventually(lambda: box.gauge("broker") == "online", "connected")
        late = box.say(5)
        eventually(lambda: set(late) <= set(subscriber.ids("event")), "live events, whatever the disk does")
        eventually(lambda: box.gauge("log_depth") == 0, "the log is empty", 60)
        dropped = box.counter("events_dropped")
        assert dropped > 0
    account(box.made, subscriber, log, dropped)


def test_on_a_full_disk_what_was_under_way_when_the_link_died_is_sent_again(brokers: Brokers, small_disk: Path) -> None:
    broker = brokers.start(persistent=True)
    subscriber = brokers.subscribe(broker)
    (small_disk / "others").write_bytes(b"x" * 2_000_000)
    log = small_disk / "fallback.db"
    with room(broker.url, log) as box:
        box.say(1)
        box.wait_published(1)
        broker.freeze()
        box.say(5)
        eventually(lambda: box.gauge("broker") == "offline", "the silence is noticed")
        broker.kill()
        broker.start()
        eventually(lambda: box.counter("events_published") == 6, "all of them are acknowledged")
        box.say(1)
        eventually(lambda: list(dict.fromkeys(subscriber.ids("event"))) == box.made, "all of them, in order")
        assert box.counter("events_spooled") == box.counter("events_dropped") == 0
    account(box.made, subscriber, log)


def test_a_read_only_disk(brokers: Brokers, small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    broker, subscriber = brokers.prepare_heard()
    log = small_disk / "fallback.db"
    with room(broker.url, log) as box:
        first = box.say(10)
        box.wait_stored(10)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with room(broker.url, log, run=2) as box:
        second = box.say(10)
        eventually(lambda: box.gauge("log_error"), "the read-only disk is noticed")
        broker.start()
        eventually(lambda: set(second) <= set(subscriber.ids("event")), "events reach the broker from memory")
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
        eventually(lambda: box.counter("events_replayed") == 10, "and the log is read once it can be")
        account(first + second, subscriber, log)
    one_line(caplog, "cannot be used")


def test_a_log_that_is_deleted_on_a_full_disk(
    brokers: Brokers, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The old file is still open: its events are read once a new log fits. No number is used twice."""
    broker, subscriber = brokers.prepare_heard()
    log = small_disk / "fallback.db"
    others = small_disk / "others"
    with room(broker.url, log, max_bytes=1_048_576) as box:
        box.say(500)
        box.wait_stored(500)
        with contextlib.suppress(OSError), others.open("wb") as file:
            while file.write(b"x" * 4096):
                file.flush()
        log.unlink()
        box.say(100)
        eventually(lambda: box.gauge("log_error"), "the full disk is noticed")
        others.unlink()
        box.wait_stored(600)
        assert stored_ids(log) == box.made
        broker.start()
        eventually(lambda: box.gauge("log_depth") == 0, "the log is empty")
        account(box.made, subscriber, log)
        assert box.counter("events_dropped") == 0
    one_line(caplog, "was deleted")


@pytest.fixture
def disk_of_24_megabytes(small_disk: Path) -> Path:
    subprocess.run(["mount", "-o", "remount,size=24m", str(small_disk)], check=True)
    return small_disk


@pytest.mark.parametrize("free_bytes", [3_500_000, 5_500_000, 6_000_000, 6_500_000, 7_000_000, 7_500_000])
def test_a_damaged_log_on_a_disk_that_has_no_room_for_its_copy(
    brokers: Brokers, disk_of_24_megabytes: Path, free_bytes: int
) -> None:
    """Its events are moved into the new log a few at a time, as the earlier ones are delivered."""
    log = disk_of_24_megabytes / "fallback.db"
    ids = event_ids(DEVICE, BOOT, 1)
    made = [make_event(ids) for _ in range(12_000)]
    with contextlib.closing(FallbackLog(log, MAX_BYTES)) as whole:
        for at in range(0, len(made), 200):
            whole.commit(Changes(add=[(event.to_json().encode(), "") for event in made[at : at + 200]]))
        copies = {file.name: file.read_bytes() for file in log.parent.glob("fallback.db*")}
    for name, content in copies.items():  # as a power cut leaves it, with the newest events in the write-ahead log
        (log.parent / name).write_bytes(content)
    with log.open("r+b") as file:
        file.write(b"\xff")
    free = shutil.disk_usage(log.parent).free
    with (log.parent / "others").open("wb") as file:
        file.write(b"x" * (free - free_bytes))
    broker, subscriber = brokers.prepare_heard()
    broker.start()
    with room(broker.url, log, run=2) as box:
        eventually(lambda: box.counter("events_replayed") == len(made), "all of them are delivered", 60)
        assert box.counter("events_dropped") == 0
        eventually(lambda: len(set(subscriber.ids("replay"))) == len(made), "the subscriber has read all of them")
        account([event.id for event in made], subscriber, log)
        assert list(dict.fromkeys(subscriber.ids("replay"))) == [event.id for event in made]


@pytest.mark.parametrize("what", ["the file", "the directory"])
def test_a_deleted_log(brokers: Brokers, tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str) -> None:
    broker, subscriber = brokers.prepare_heard()
    log = tmp_path / "state" / "fallback.db"
    with room(broker.url, log) as box:
        box.say(10)
        box.wait_stored(10)
        if what == "the file":
            log.unlink()
        else:
            shutil.rmtree(log.parent)
        box.say(10)
        box.wait_stored(20)
        assert stored_ids(log) == box.made
        broker.start()
        eventually(lambda: box.gauge("log_depth") == 0, "the log is empty")
        account(box.made, subscriber, log)
    one_line(caplog, "was deleted")


def test_a_log_bounded_in_bytes_counts_what_it_drops_across_restarts(brokers: Brokers, tmp_path: Path) -> None:
    broker = brokers.prepare()
    log = tmp_path / "fallback.db"
    made: list[str] = []
    for run in (1, 2):
        with room(broker.url, log, run=run, max_bytes=1_048_576) as box:
            for _ in range(15):
                box.say(100)
                assert box.delivery.flush(10.0)
                assert sum(file.stat().st_size for file in tmp_path.glob("fallback.db*")) <= 1_048_576
            dropped = box.counter("events_dropped")
            made += box.made
    broker.start()
    subscriber = brokers.subscribe(broker)
    with room(broker.url, log, run=3, max_bytes=1_048_576) as box:
        eventually(lambda: box.gauge("log_depth") == 0 and box.gauge("broker") == "online", "the log is empty")
        eventually(lambda: box.counter("events_dropped") == dropped > 0, "the count survives")
    account(made, subscriber, log, dropped)


@pytest.mark.parametrize("jump_s", [-3600.0, 10 * 365.25 * 86400])
def test_a_clock_that_jumps_ages_nothing_out(
    brokers: Brokers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    """An event's age is never measured by the wall clock."""
    broker, subscriber = brokers.prepare_heard()
    log = tmp_path / "fallback.db"
    now = time.time()
    with room(broker.url, log) as box:
        box.delivery.clock_synchronised(1_790_000_000.0)
        box.say(5)
        box.delivery.flush(5.0)
        monkeypatch.setattr(time, "time", lambda: now + jump_s)
        box.delivery.clock_synchronised(1_790_000_000.0 + jump_s)
        box.say(5)
        broker.start()
        eventually(lambda: box.gauge("log_depth") == 0 and box.gauge("broker") == "online", "the log is empty")
        account(box.made, subscriber, log)
        assert subscriber.ids("replay") == sorted(subscriber.ids("replay"))
        assert box.counter("events_dropped") == 0


def test_a_day_at_one_event_a_second_writes_less_than_a_megabyte(
    brokers: Brokers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is written for an event that the broker acknowledges, so a day costs only what the start costs."""
    caplog.set_level(logging.INFO, "edge")
    broker = brokers.start()
    before = disk_bytes_written()
    if before is None:
        pytest.skip("this kernel does not count what a process writes (/proc/self/io)")
    with room(broker.url, tmp_path / "state" / "fallback.db") as box:
        box.wait_online()
        started = disk_bytes_written()
        for _ in range(20):
            box.say(100)
            eventually(lambda: box.counter("events_published") == len(box.made), "acknowledgement")
        ran = disk_bytes_written()
    stopped = disk_bytes_written()
    figures: dict[str, Any] = {"start": started, "2,000 events": ran, "stop": stopped}
    print("\n" + ", ".join(f"{name}: {value - before} bytes written" for name, value in figures.items()))
    assert stopped is not None
    assert stopped - before < 1_000_000
    assert ran == started
