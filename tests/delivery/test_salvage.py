"""Tests that a damaged log is set aside at once, and that its events are saved while live ones continue."""

import json
import multiprocessing
import shutil
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from edge.delivery import log_file, salvage, set_aside
from edge.delivery.fallback import Changes, FallbackLog
from edge.delivery.inspect import purge, stored_events, summarise
from edge.delivery.log_file import SCHEMA, LogFile
from edge.errors import StateError
from edge.events import event_ids
from tests.broker import Brokers, eventually
from tests.delivery.driver import BOOT, DEVICE, make_event
from tests.delivery.room import MAX_BYTES, Room
from tests.faults.accounts import account

EVENTS = 30_000  # more than 8 MiB, so that damage in the middle is only found when it is read


@pytest.fixture(scope="module")
def made() -> list[str]:
    ids = event_ids(DEVICE, BOOT, 1)
    return [make_event(ids).to_json() for _ in range(EVENTS)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, made: list[str]) -> Path:
    path = tmp_path_factory.mktemp("large") / "fallback.db"
    with closing(FallbackLog(path, MAX_BYTES)) as log:
        for at in range(0, EVENTS, 200):
            log.commit(Changes(add=[(event.encode(), "") for event in made[at : at + 200]]))
    return path


@pytest.fixture
def damaged(large: Path, tmp_path: Path) -> Path:
    path = tmp_path / "state" / "fallback.db"
    path.parent.mkdir()
    shutil.copy(large, path)
    with path.open("r+b") as file:
        file.write(b"\xff")
    return path


def test_live_events_and_the_watchdog_do_not_wait_for_a_large_salvage(
    brokers: Brokers, damaged: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, subscriber = brokers.prepare_heard()
    broker.start()
    box = Room(broker.url, damaged, run=2)
    saved, at_beat, most = 0, 0, 0
    step, beat = salvage.Salvage.step, box.status.beat

    def counted(old: salvage.Salvage, file: LogFile) -> bool:
        nonlocal saved
        before = file.account().depth
        more = step(old, file)
        saved += file.account().depth - before
        return more

    def beats(stage: str) -> None:
        nonlocal at_beat, most
        most, at_beat = max(most, saved - at_beat), saved
        beat(stage)

    monkeypatch.setattr(salvage.Salvage, "step", counted)
    monkeypatch.setattr(box.status, "beat", beats)
    box.delivery.start()
    try:
        box.wait_online()
        (live,) = box.say(1)
        eventually(lambda: live in subscriber.ids("event"), "a live event")
        assert saved < EVENTS, "the live event came before the salvage was done"
        eventually(lambda: box.gauge("log_depth") == 0, "everything was salvaged and replayed", 60)
        assert box.counter("events_dropped") == 0
        account([live, *(json.loads(event)["id"] for event in made)], subscriber, damaged)
        assert saved == EVENTS
        assert most <= EVENTS / 8, f"{most} events were salvaged between two beats of the watchdog"
    finally:
        box.delivery.stop(5.0)


def test_a_salvage_that_is_cut_off_goes_on_where_it_was(damaged: Path, tmp_path: Path, made: list[str]) -> None:
    log = FallbackLog(damaged, MAX_BYTES)
    log.open()
    for _ in range(5):
        assert log.salvage()
    cut = shutil.copytree(damaged.parent, tmp_path / "cut") / "fallback.db"
    log.close()
    again = FallbackLog(cut, MAX_BYTES)
    again.open()
    assert again.account.waiting == EVENTS, "those that wait in the old file count"
    while again.salvage():
        pass
    assert [entry.payload.decode() for entry in again.read(0, EVENTS + 1)] == made
    assert (again.account.dropped, again.salvaging) == (0, False)
    again.close()


def test_what_was_delivered_before_the_cut_is_not_salvaged_again(damaged: Path, tmp_path: Path) -> None:
    log = FallbackLog(damaged, MAX_BYTES)
    first = log.read(0, 100)
    log.commit(Changes(delete=[entry.seq for entry in first]))
    cut = shutil.copytree(damaged.parent, tmp_path / "cut") / "fallback.db"
    log.close()
    again = FallbackLog(cut, MAX_BYTES)
    while again.salvage():
        pass
    assert again.account.waiting == EVENTS - 100
    assert again.read(0, 1)[0].seq == first[-1].seq + 1
    assert again.account.dropped == 0
    again.close()


def test_a_damaged_page_costs_the_events_on_it_and_the_order_of_none(damaged: Path, large: Path) -> None:
    content = bytearray(large.read_bytes())
    middle = len(content) // 2 // 1024 * 1024
    content[middle : middle + 4096] = b"\xff" * 4096
    damaged.write_bytes(content)
    log = FallbackLog(damaged, MAX_BYTES)
    seqs: list[int] = []
    while batch := log.read(seqs[-1] if seqs else 0, 500):
        seqs += [entry.seq for entry in batch]
        while log.salvage():
            pass
    while log.salvage():
        pass
    seqs = [entry.seq for entry in log.read(0, EVENTS)]
    assert seqs == sorted(seqs)
    assert EVENTS - 200 <= len(seqs) == EVENTS - log.account.dropped < EVENTS
    log.close()


@pytest.fixture
def small(tmp_path: Path, made: list[str]) -> Path:
    """A log of 300 events."""
    path = tmp_path / "fallback.db"
    with closing(FallbackLog(path, MAX_BYTES)) as log:
        log.commit(Changes(add=[(event.encode(), "") for event in made[:300]]))
    return path


def damage_first_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(18)
        file.write(b"\x09\x09")


def salvaged(log: FallbackLog) -> list[str]:
    while log.salvage():
        pass
    return [entry.payload.decode() for entry in log.read(0, 2 * EVENTS)]


def test_events_that_were_delivered_before_the_damage_are_not_missed(small: Path, made: list[str]) -> None:
    with closing(FallbackLog(small, MAX_BYTES)) as log:
        log.commit(Changes(delete=range(291, 301)))
    damage_first_page(small)
    with closing(FallbackLog(small, MAX_BYTES)) as log:
        assert salvaged(log) == made[:290]
        assert log.account.dropped == 0
        assert log.commit(Changes(add=[(b"{}", "")])) == [301]


def test_a_cut_before_the_old_file_is_put_away_counts_what_is_lost_once(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(small, isolation_level=None)) as other:
        other.execute("UPDATE events SET payload = x'00' WHERE seq BETWEEN 101 AND 120")
    damage_first_page(small)

    def cut(_: salvage.Salvage, log: Path) -> None:
        raise KeyboardInterrupt

    log = FallbackLog(small, MAX_BYTES)
    with monkeypatch.context() as power:
        power.setattr(salvage.Salvage, "put_away", cut)
        with pytest.raises(KeyboardInterrupt):
            log.open()
    log.close()
    with closing(FallbackLog(small, MAX_BYTES)) as again:
        assert len(salvaged(again)) == 280
        assert again.account.dropped == 20


@pytest.mark.parametrize("restarted", [False, True])
def test_a_log_that_is_damaged_again_during_a_salvage_loses_nothing(
    damaged: Path, made: list[str], restarted: bool
) -> None:
    log = FallbackLog(damaged, MAX_BYTES)
    log.commit(Changes(add=[(b'{"first": 1}', ""), (b'{"first": 2}', "")]))
    assert log.salvaging
    if restarted:
        log.close()
        damage_first_page(damaged)
        log = FallbackLog(damaged, MAX_BYTES)
    else:
        with closing(sqlite3.connect(damaged, isolation_level=None)) as other:
            other.execute("DELETE FROM account WHERE one = 1")
    log.commit(Changes(add=[(b'{"then": 1}', ""), (b'{"then": 2}', "")]))
    found = salvaged(log)
    while log.salvaging:
        found = salvaged(log)
    later = ['{"first": 1}', '{"first": 2}', '{"then": 1}', '{"then": 2}']
    assert sorted(found) == sorted([*made, *later])
    assert log.account.dropped == 0
    log.close()


@pytest.mark.parametrize("fault", ["damaged", "deleted"])
def test_a_purge_during_a_salvage_deletes_what_is_still_to_be_saved(damaged: Path, large: Path, fault: str) -> None:
    if fault == "deleted":
        shutil.copy(large, damaged)
    log = FallbackLog(damaged, MAX_BYTES)
    log.open()
    if fault == "deleted":
        damaged.unlink()
        log.open()
    assert log.salvaging
    assert summarise(damaged, MAX_BYTES).events == EVENTS
    assert purge(damaged, MAX_BYTES) == EVENTS
    assert salvaged(log) == []
    assert (log.account.waiting, log.account.dropped) == (0, 0)
    log.close()


def test_a_deleted_log_without_room_for_another_counts_its_events_when_the_daemon_ends(
    small: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = FallbackLog(small, MAX_BYTES)
    log.open()
    small.unlink()
    with monkeypatch.context() as full:
        full.setattr(LogFile, "_set_up", no_room)
        with pytest.raises(StateError, match="make room there"):
            log.commit(Changes(add=[(b"{}", "")]))
    log.close()
    assert "300 events are lost" in caplog.text
    with closing(FallbackLog(small, MAX_BYTES)) as again:
        again.open()
        assert again.account.dropped == 300
        assert again.commit(Changes(add=[(b"{}", "")])) == [301]


def no_room(*_: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")


def account_row(document: dict[str, object]) -> tuple[int, bytes]:
    content = json.dumps(document).encode()
    return zlib.crc32(content), content


def old_log(path: Path, **newer: object) -> None:
    """A log with 3 events, as versions before `user_version` wrote it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("PRAGMA page_size=1024")
        old.execute("PRAGMA journal_mode=WAL")
        for statement in SCHEMA:
            old.execute(statement)
        for seq in (7, 8, 9):
            old.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (seq, zlib.crc32(b"{}"), None, b"{}"))
        document = {"next_seq": 10, "depth": 3, "bytes": 78, "dropped": 5, "offsets": {"5f1c2e7a": 1.5}} | newer
        old.execute("INSERT INTO account VALUES (1, ?, ?)", account_row(document))


@pytest.mark.parametrize("newer", [{}, {"a_newer_field": [1, 2]}])
def test_an_account_of_another_version_is_no_damage(tmp_path: Path, newer: dict[str, object]) -> None:
    path = tmp_path / "fallback.db"
    old_log(path, **newer)
    log = FallbackLog(path, MAX_BYTES)
    log.open()
    assert (log.account.waiting, log.account.dropped) == (3, 5)
    assert not summarise(path, MAX_BYTES).set_aside
    assert log.account.offsets == {"5f1c2e7a": 1.5}
    assert log.commit(Changes(add=[(b"{}", "")])) == [10]
    log.close()
    with closing(sqlite3.connect(path)) as later:
        (document,) = later.execute("SELECT document FROM account WHERE one = 1").fetchone()
    assert newer.items() <= json.loads(document).items(), "what it does not know it keeps"


def test_a_mistake_in_the_program_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "fallback.db"
    old_log(path)
    log = FallbackLog(path, MAX_BYTES)
    log.open()
    with pytest.raises(TypeError):
        log.commit(Changes(add=[(None, "")]))  # type: ignore[list-item]
    assert log.account.dropped == 5
    assert not summarise(path, MAX_BYTES).set_aside
    assert len(log.read(0, 10)) == 3
    log.close()


def test_a_log_in_a_newer_format_is_left_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "fallback.db"
    old_log(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as newer:
        newer.execute("PRAGMA user_version=2")
    log = FallbackLog(path, MAX_BYTES)
    log.open()
    assert (log.account.waiting, log.account.dropped) == (0, 5)
    assert log.commit(Changes(add=[(b"{}", "")])) == [10]
    log.close()
    (aside,) = tmp_path.glob("fallback.db.newer-*")
    with closing(sqlite3.connect(aside)) as left:
        assert left.execute("SELECT seq FROM events").fetchall() == [(7,), (8,), (9,)]
    assert "a newer version of the program wrote it, in format 2. It is kept as fallback.db.newer-" in caplog.text


def test_the_events_of_a_newer_format_follow_when_the_newer_version_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fallback.db"
    old_log(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as newer:
        newer.execute("PRAGMA user_version=2")
    with closing(FallbackLog(path, MAX_BYTES)) as log:
        assert log.commit(Changes(add=[(b'{"then": 1}', "")])) == [10]
    with closing(FallbackLog(path, MAX_BYTES)) as log:
        assert salvaged(log) == ['{"then": 1}'], "this version leaves the file where it is"
    monkeypatch.setattr(log_file, "VERSION", 2)
    monkeypatch.setattr(set_aside, "VERSION", 2)
    with closing(FallbackLog(path, MAX_BYTES)) as log:
        assert salvaged(log) == ["{}", "{}", "{}", '{"then": 1}']
        assert (log.account.waiting, log.account.dropped) == (4, 5)
    assert not list(tmp_path.glob("fallback.db.newer-*"))


def test_a_command_that_looks_into_the_log_during_a_salvage_leaves_its_write_ahead_log(damaged: Path) -> None:
    """The last process that closes an SQLite file deletes that; the daemon's locks show that it is not the last."""
    with closing(FallbackLog(damaged, MAX_BYTES)) as log:
        log.open()
        assert log.salvaging
        looked = multiprocessing.get_context("spawn").Process(target=summarise, args=(damaged, MAX_BYTES))
        looked.start()
        looked.join()
        assert looked.exitcode == 0
        log.commit(Changes(add=[(b'{"new": 1}', "")]))
        assert b'{"new": 1}' in stored_events(damaged, MAX_BYTES)
        assert damaged.with_name("fallback.db-wal").exists()


def test_a_log_that_is_deleted_while_it_is_closed_after_a_fault_counts_its_events(
    small: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a full disk a person may delete it to make room."""
    log = FallbackLog(small, MAX_BYTES)
    log.open()
    with monkeypatch.context() as full:
        full.setattr(LogFile, "insert", no_room)
        with pytest.raises(StateError, match="make room there"):
            log.commit(Changes(add=[(b"{}", "")]))
    small.unlink()
    assert log.commit(Changes(add=[(b"{}", "")])) == [301]
    assert (log.account.waiting, log.account.dropped) == (1, 300)
    assert "300 events are lost" in caplog.text
    log.close()


def test_a_write_ahead_log_that_a_cut_left_behind_is_not_applied_to_the_next_file(
    small: Path, tmp_path: Path, made: list[str]
) -> None:
    """A cut between the renames of a file that is put away leaves one without its main file."""
    with closing(FallbackLog(tmp_path / "other.db", MAX_BYTES)) as other:
        other.commit(Changes(add=[(b'{"other": 1}', "")] * 500))
        shutil.copy(tmp_path / "other.db-wal", f"{small}.salvage-1-wal")
    damage_first_page(small)
    with closing(FallbackLog(small, MAX_BYTES)) as log:
        assert salvaged(log) == made[:300]


def test_a_directory_that_is_deleted_during_a_salvage_counts_what_only_the_damaged_file_had(
    damaged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(FallbackLog(damaged, MAX_BYTES)) as log:
        log.open()
        assert log.salvaging
        shutil.rmtree(damaged.parent)
        log.commit(Changes(add=[(b"{}", "")]))
        found = salvaged(log)
        assert found[-1] == "{}"
        assert len(found) + log.account.dropped == EVENTS + 1
        assert f"{log.account.dropped} events of the fallback log cannot be read any more" in caplog.text


def test_a_damaged_file_that_is_deleted_during_its_salvage_and_a_fault_is_counted(
    damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(FallbackLog(damaged, MAX_BYTES)) as log:
        log.open()
        assert log.salvaging
        for file in damaged.parent.glob("*.salvage-1*"):
            file.unlink()
        with monkeypatch.context() as full:
            full.setattr(LogFile, "insert", no_room)
            with pytest.raises(StateError, match="make room there"):
                log.commit(Changes(add=[(b"{}", "")]))
        found = salvaged(log)
        assert 0 < len(found) < EVENTS
        assert len(found) + log.account.dropped == EVENTS


def test_a_log_that_is_purged_and_then_deleted_counts_nothing_as_dropped(small: Path) -> None:
    with closing(FallbackLog(small, MAX_BYTES)) as log:
        log.open()
        assert purge(small, MAX_BYTES) == 300
        small.unlink()
        assert log.commit(Changes(add=[(b"{}", "")])) == [301]
        assert (log.account.waiting, log.account.dropped) == (1, 0)


def test_a_file_is_salvaged_after_those_that_were_set_aside_before_it(small: Path) -> None:
    """The first one may be put away already, and its number is free."""
    Path(f"{small}.salvage-2").touch()
    assert set_aside.set_aside(small).name == "fallback.db.salvage-3"


def test_a_directory_that_is_replaced_by_a_file_is_one_sentence_and_costs_nothing(small: Path, made: list[str]) -> None:
    with closing(FallbackLog(small, MAX_BYTES)) as log:
        log.open()
        shutil.rmtree(small.parent)
        small.parent.touch()
        with pytest.raises(StateError, match="cannot be used"):
            log.commit(Changes(add=[(b"{}", "")]))
        small.parent.unlink()
        assert salvaged(log) == made[:300]
