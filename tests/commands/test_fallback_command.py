"""Tests `edge-classifier fallback`: show, export, replay and purge, also while a daemon runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.broker import Brokers, eventually
from tests.delivery.room import CHECKOUT, driver, room, stored_ids


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "state" / "fallback.db"


def fallback(log: Path, *arguments: str, url: str = "mqtt://127.0.0.1:9") -> "subprocess.CompletedProcess[str]":
    settings = {"FALLBACK_PATH": str(log), "FALLBACK_REPLAY_PER_S": "0", "DEVICE_NAME": "porch", "MQTT_URL": url}
    environment = {f"EDGE_CLASSIFIER_{key}": value for key, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "edge", "fallback", *arguments],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), **environment},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def fill(log: Path, count: int) -> list[str]:
    with room("mqtt://127.0.0.1:9", log) as box:
        return box.say(count)


def test_a_log_that_does_not_exist_yet_is_empty(log: Path) -> None:
    shown = fallback(log, "show", "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout) == {
        "path": str(log), "events": 0, "bytes": 0, "max_bytes": 268435456, "oldest": None, "newest": None,
        "dropped": 0, "refused": {}, "set_aside": [],
    }  # fmt: skip
    assert fallback(log, "export").stdout == ""
    assert fallback(log, "purge", "--yes").stdout == "The fallback log is empty.\n"
    assert fallback(log, "replay").stdout == "The fallback log is empty.\n"
    assert not log.exists(), "looking creates nothing"


def test_show_and_export_leave_the_log_as_it_is(log: Path, tmp_path: Path) -> None:
    made = fill(log, 12)
    shown = fallback(log, "show")
    assert "events     12\n" in shown.stdout
    exported = fallback(log, "export")
    assert [json.loads(line)["id"] for line in exported.stdout.splitlines()] == made
    to_file = fallback(log, "export", str(tmp_path / "events.jsonl"))
    assert (tmp_path / "events.jsonl").read_text() == exported.stdout, to_file.stderr
    assert stored_ids(log) == made


def test_purge_asks_first(log: Path) -> None:
    made = fill(log, 5)
    refused = fallback(log, "purge")
    assert refused.returncode == 1
    assert "give --yes" in refused.stderr
    assert stored_ids(log) == made
    assert fallback(log, "purge", "--yes").stdout == "5 events were deleted.\n"
    assert stored_ids(log) == []


def test_replay_sends_them_in_order(brokers: Brokers, log: Path) -> None:
    made = fill(log, 300)
    broker = brokers.start()
    subscriber = brokers.subscribe(broker)
    sent = fallback(log, "replay", url=broker.url)
    assert (sent.returncode, sent.stdout) == (0, "300 events were replayed.\n"), sent.stderr
    eventually(lambda: len(subscriber.on("replay")) == 300, "all of them")
    assert subscriber.ids("replay") == made
    assert stored_ids(log) == []


def test_the_commands_work_while_a_daemon_runs(brokers: Brokers, tmp_path: Path) -> None:
    broker = brokers.prepare()
    with driver(broker.url, tmp_path, per_s=20) as box:
        eventually(lambda: len(stored_ids(box.log) if box.log.exists() else []) > 40, "events in the log")
        assert json.loads(fallback(box.log, "show", "--json").stdout)["events"] > 40
        replay = fallback(box.log, "replay", url=broker.url)
        assert replay.returncode == 73
        assert "another edge-classifier is using it" in replay.stderr
        assert "events were deleted" in fallback(box.log, "purge", "--yes").stdout
        left = len(stored_ids(box.log))
        eventually(lambda: len(stored_ids(box.log)) > left, "the daemon goes on storing")
        status = box.terminate()
    assert status["log_depth"] == len(stored_ids(box.log))
    assert status["log_error"] == ""


def test_a_broker_that_is_not_there_is_one_sentence(log: Path) -> None:
    made = fill(log, 3)
    sent = fallback(log, "replay")
    assert sent.returncode == 69
    assert "No broker listens at 127.0.0.1:9" in sent.stderr
    assert "3 events still wait." in sent.stderr
    assert "Traceback" not in sent.stderr
    assert stored_ids(log) == made


def test_a_damaged_log_and_one_that_may_not_be_read_are_one_sentence(log: Path) -> None:
    fill(log, 1)
    spoiled = log.read_bytes().replace(b"TABLE account (", b"TABLE account \xbf")
    for damaged in (spoiled, b"This is not a database.\n" * 100):
        log.write_bytes(damaged)
        for action in (["show"], ["export"], ["purge", "--yes"]):
            result = fallback(log, *action)
            assert result.returncode == 73
            assert "is damaged" in result.stderr
            assert "Traceback" not in result.stderr
