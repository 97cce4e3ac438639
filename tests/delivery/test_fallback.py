"""Tests that the fallback log keeps events in order and within its size, whatever happens to its file."""

import contextlib
import fcntl
import multiprocessing
import os
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge.board.host import disk_bytes_written
from edge.delivery.fallback import Changes, FallbackLog
from edge.errors import StateError
from tests.delivery.driver import open_log_together

MIB = 1024 * 1024


def payload(number: int) -> bytes:
    return f'{{"id":"porch-{number:06d}","x":"'.encode() + b"v" * 390 + b'"}'


def store(log: FallbackLog, numbers: range) -> list[int]:
    seqs: list[int] = []
    for at in range(numbers.start, numbers.stop, 100):
        part = range(at, min(at + 100, numbers.stop))
        seqs += log.commit(Changes(add=[(payload(number), "") for number in part]))
    return seqs


def stored(log: FallbackLog) -> list[bytes]:
    return [entry.payload for entry in log.read(0, 1_000_000)]


def disk_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(path.name + "*"))


def test_events_survive_the_process_in_order(tmp_path: Path) -> None:
    log = FallbackLog(tmp_path / "state" / "fallback.db", MIB)
    store(log, range(10))
    log.close()
    again = FallbackLog(tmp_path / "state" / "fallback.db", MIB)
    again.open()
    assert again.account.waiting == 10
    assert stored(again) == [payload(number) for number in range(10)]
    again.close()


def test_a_delivered_event_is_gone_and_its_place_is_never_used_again(tmp_path: Path) -> None:
    log = FallbackLog(tmp_path / "fallback.db", MIB)
    first, second = store(log, range(2))
    log.commit(Changes(delete=[first, second, 99]))
    assert (log.account.waiting, log.account.bytes) == (0, 0)
    (third,) = store(log, range(2, 3))
    assert third > second
    log.close()


def test_a_refused_event_stays_with_its_reason(tmp_path: Path) -> None:
    log = FallbackLog(tmp_path / "fallback.db", MIB)
    first, second = store(log, range(2))
    log.commit(Changes(refused={first: "Not authorized (0x87)"}))
    assert [(row.seq, row.refused or "") for row in log.read(0, 10)] == [(first, "Not authorized (0x87)"), (second, "")]
    log.close()


def test_a_full_log_drops_the_oldest_counts_them_and_stays_within_its_bytes(tmp_path: Path) -> None:
    log = FallbackLog(tmp_path / "fallback.db", MIB)
    for at in range(0, 6000, 60):
        store(log, range(at, at + 60))
        assert disk_bytes(log.path) <= MIB
    kept = stored(log)
    assert kept == [payload(number) for number in range(6000 - len(kept), 6000)], "the newest, without a hole"
    assert log.account.dropped == 6000 - len(kept)
    assert len(kept) * 430 > MIB / 3, "most of the bytes hold events"
    log.close()
    again = FallbackLog(tmp_path / "fallback.db", MIB)
    again.open()
    assert again.account.dropped == 6000 - len(kept), "the count survives a restart"
    again.close()


def test_the_part_of_the_limit_in_use_grows_to_one_and_falls_when_events_are_delivered(tmp_path: Path) -> None:
    log = FallbackLog(tmp_path / "fallback.db", MIB)
    log.open()
    assert log.used < 0.05
    parts = []
    for at in range(0, 3000, 60):
        store(log, range(at, at + 60))
        parts.append(log.used)
        if not log.account.dropped:
            assert parts == sorted(parts)
        else:
            assert log.used > 0.9, "a log that drops events is called full"
    assert max(parts) <= 1.05
    log.commit(Changes(delete=[row.seq for row in log.read(0, 10_000)]))
    assert log.used < 0.05
    log.close()


def test_the_offset_of_a_boot_lives_as_long_as_its_events(tmp_path: Path) -> None:
    log = FallbackLog(tmp_path / "fallback.db", MIB)
    (seq,) = log.commit(Changes(add=[(payload(1), "")], boot="5f1c2e7a", offset_s=1_790_000_000.5))
    log.close()
    log.open()
    assert log.account.offsets == {"5f1c2e7a": 1_790_000_000.5}
    log.commit(Changes(delete=[seq]))
    assert not log.account.offsets
    log.close()


@pytest.mark.parametrize(("a_commit", "commits", "limit"), [(3, 200, 15.0), (41, 44, 4.0)])
def test_bytes_written_for_each_byte_of_an_event(tmp_path: Path, a_commit: int, commits: int, limit: float) -> None:
    """A commit comes 2 s after its oldest event: it has 3 events at one a second, 41 at twenty a second."""
    state = tmp_path
    log = FallbackLog(state / "fallback.db", 256 * MIB)
    log.open()
    before = disk_bytes_written()
    for at in range(commits):
        store(log, range(at * a_commit, (at + 1) * a_commit))
    log.close()
    written = disk_bytes_written() - before
    if not written:
        pytest.skip("this file system does not count what is written (tmpfs)")
    ratio = written / (commits * a_commit * len(payload(0)))
    print(f"\n{a_commit} events a commit: {ratio:.1f} bytes written for each byte of an event (limit {limit:g})")
    assert ratio <= limit


@pytest.mark.parametrize("damage", ["text", "truncated", "empty", "no account", "other tables", "future", "no utf-8"])
def test_a_damaged_file_is_set_aside_and_the_log_starts_afresh(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "fallback.db"
    log = FallbackLog(path, MIB)
    store(log, range(200))
    log.close()
    match damage:
        case "text":
            path.write_text("This is not a database.\n" * 100)
        case "truncated":
            os.truncate(path, path.stat().st_size // 2)
        case "empty":
            os.truncate(path, 0)
        case "no account":
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("DELETE FROM account")
        case "other tables":
            path.unlink()
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("CREATE TABLE other (x)")
        case "future":
            with path.open("r+b") as file:
                file.seek(18)
                file.write(b"\x09\x09")
        case "no utf-8":  # SQLite quotes it in its message, which Python's sqlite3 then cannot decode
            path.write_bytes(path.read_bytes().replace(b"TABLE account (", b"TABLE account \xbf"))
    log.open()
    set_aside = list(tmp_path.glob("fallback.db.corrupt-*"))
    assert len(set_aside) == (0 if damage == "empty" else 1)
    before = len(stored(log))
    store(log, range(200, 203))
    assert stored(log)[before:] == [payload(number) for number in range(200, 203)]
    if damage in ("truncated", "no account", "future", "no utf-8"):
        assert before > 0, "what can be read is kept"
    assert before + log.account.dropped == 200 or damage in ("empty", "other tables")
    log.close()


@pytest.mark.parametrize("byte", [0, 5, 17, 22, 28, 100, 103, 110, 500])
def test_one_byte_of_the_first_page_costs_no_event(tmp_path: Path, byte: int) -> None:
    path = tmp_path / "fallback.db"
    log = FallbackLog(path, MIB)
    store(log, range(300))
    log.close()
    content = bytearray(path.read_bytes())
    content[byte] ^= 0xFF
    path.write_bytes(content)
    again = FallbackLog(path, MIB)
    assert stored(again) == [payload(number) for number in range(300)]
    assert again.account.dropped == 0
    again.close()
    assert [aside.read_bytes() for aside in tmp_path.glob("fallback.db.corrupt-*")] in ([], [content])


@pytest.mark.parametrize("rest", ["readable", "gone"])
def test_what_is_lost_together_with_the_account_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rest: str
) -> None:
    path = tmp_path / "fallback.db"
    log = FallbackLog(path, MIB)
    store(log, range(300))
    log.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM account")
        lost = "seq BETWEEN 101 AND 120" if rest == "readable" else "true"
        connection.execute(f"UPDATE events SET payload = x'00' WHERE {lost}")
    again = FallbackLog(path, MIB)
    assert len(stored(again)) == (280 if rest == "readable" else 0)
    assert again.account.dropped == (20 if rest == "readable" else 0)
    assert ("At least 20 events" if rest == "readable" else "An unknown number of events") in caplog.text
    again.close()


@pytest.mark.parametrize("seed", range(10))
def test_random_bytes_overwritten_never_invent_an_event_nor_stop_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    chance = random.Random(seed)
    path = tmp_path / "fallback.db"
    log = FallbackLog(path, 4 * MIB)
    store(log, range(300))
    log.close()
    with path.open("r+b") as file:
        for _ in range(chance.choice([1, 4, 64])):
            file.seek(chance.randrange(path.stat().st_size))
            file.write(chance.randbytes(chance.choice([1, 8, 500])))
    truth = {payload(number) for number in range(301)}
    store(log, range(300, 301))
    found = stored(log)
    assert set(found) <= truth, "an event that was never made"
    assert payload(300) in found
    if "own count cannot be read" not in caplog.text:
        assert len(found) + log.account.dropped >= 301, "events are missing and are not reported"
    log.close()


def test_a_daemon_and_commands_may_make_the_file_at_the_same_moment(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.delivery.driver"])
    for number in range(10):
        together = context.Barrier(3)
        path = tmp_path / f"{number}.db"
        processes = [context.Process(target=open_log_together, args=(path, together)) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0, 0]


class Cut(BaseException):
    """Raised where the power is cut."""


@pytest.mark.parametrize("renames", [0, 1, 2, 3, 4])
def test_a_cut_while_a_damaged_file_is_replaced_costs_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """The second half of the events is in the write-ahead log, as after a power cut."""
    path = tmp_path / "fallback.db"
    log = FallbackLog(tmp_path / "log" / "fallback.db", MIB)
    store(log, range(100))
    log.close()
    store(log, range(100, 200))
    for file in (tmp_path / "log").glob("fallback.db*"):
        shutil.copy(file, tmp_path)
    log.close()
    shutil.rmtree(tmp_path / "log")
    damaged = bytearray(path.read_bytes())
    damaged[0] ^= 0xFF
    path.write_bytes(damaged)
    rename, done = Path.replace, 0

    def cut_after(old: Path, new: str | Path) -> Path:
        nonlocal done
        if old.exists():
            if done == renames:
                raise Cut
            done += 1
        return rename(old, new)

    log = FallbackLog(path, MIB)
    with monkeypatch.context() as power:
        power.setattr(Path, "replace", cut_after)
        with contextlib.suppress(Cut):  # with 4 renames the cut is after the last one
            log.open()
    assert done == renames
    log.close()
    again = FallbackLog(path, MIB)
    again.open()
    assert stored(again) == [payload(number) for number in range(200)]
    assert again.account.dropped == 0
    assert not again.salvaging
    assert {file.name.split("-")[0] for file in tmp_path.iterdir() if file.suffix != ".lock"} == {
        "fallback.db", "fallback.db.corrupt"
    }  # fmt: skip
    again.close()


def test_only_the_newest_damaged_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "fallback.db"
    log = FallbackLog(path, MIB)
    for number in range(4):
        for aside in tmp_path.glob("fallback.db.corrupt-*"):
            aside.rename(aside.with_name(f"fallback.db.corrupt-2020010{number}T000000"))
        path.write_text("broken " * 100)
        log.open()
        log.close()
    assert len(list(tmp_path.glob("fallback.db.corrupt-*"))) == 2


def test_a_deleted_directory_is_made_again_with_all_its_events(tmp_path: Path) -> None:
    path = tmp_path / "state" / "fallback.db"
    log = FallbackLog(path, MIB)
    store(log, range(50))
    shutil.rmtree(path.parent)
    store(log, range(50, 60))
    log.close()
    again = FallbackLog(path, MIB)
    assert stored(again) == [payload(number) for number in range(60)]
    again.close()


def test_a_second_owner_gets_an_error(tmp_path: Path) -> None:
    log = FallbackLog(tmp_path / "fallback.db", MIB)
    log.open()
    with pytest.raises(StateError, match="another edge-classifier is using it"):
        FallbackLog(tmp_path / "fallback.db", MIB).open()
    log.close()
    other = FallbackLog(tmp_path / "fallback.db", MIB)
    other.open()
    other.close()


def test_a_place_where_no_directory_can_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(StateError, match=r"cannot be used .* let this user write there"):
        FallbackLog(tmp_path / "state" / "fallback.db", MIB).open()


def test_a_log_that_another_process_keeps_locked_does_not_hold_up_the_daemon(tmp_path: Path) -> None:
    log = FallbackLog(tmp_path / "fallback.db", MIB)
    store(log, range(3))
    log.close()
    with log.path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        with pytest.raises(StateError, match="cannot be used"):
            log.open()
    assert stored(log) == [payload(number) for number in range(3)]
    log.close()
