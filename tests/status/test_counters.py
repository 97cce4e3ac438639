"""Tests that counters continue across restarts, survive any damage to their file, and are rarely written."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge.status.counters import SAVE_EVERY_S, PersistentCounters
from tests.camera.fakes import Clock

NAMES = ("camera_reopens", "camera_restarts")
REPOSITORY = Path(__file__).parent.parent.parent


def test_counts_go_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state" / "counters.json"  # the directory need not exist yet
    first = PersistentCounters(path, NAMES)
    first.follow({"camera_reopens": 3, "frames_captured": 99})
    first.follow({"camera_reopens": 4, "camera_restarts": 1})
    first.save()
    second = PersistentCounters(path, NAMES)
    assert second.totals == {"camera_reopens": 4, "camera_restarts": 1}
    second.follow({"camera_reopens": 2})  # this run's own
    assert second.totals == {"camera_reopens": 6, "camera_restarts": 1}


def test_a_camera_that_is_away_for_a_day_writes_a_few_times_an_hour(tmp_path: Path) -> None:
    clock = Clock(0.0)
    path = tmp_path / "counters.json"
    counters = PersistentCounters(path, NAMES, clock)
    writes = set()
    for second in range(0, 86_400, 10):
        clock.now = float(second)
        counters.follow({"camera_reopens": second // 10 + 1})
        writes.add(path.stat().st_mtime_ns)
    assert len(writes) <= 86_400 / SAVE_EVERY_S
    counters.save()
    assert PersistentCounters(path, NAMES).totals["camera_reopens"] == 8640


def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    clock = Clock(0.0)
    path = tmp_path / "counters.json"
    counters = PersistentCounters(path, NAMES, clock)
    for clock.now in (0.0, 1e4, 2e4):
        counters.follow({"camera_reopens": 0})
        counters.save()
    assert not path.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 40, b"[1, 2]", b'{"camera_reopens": "many"}', b'{"camera_reopens": -1}', b"\xff\xfe", b"["]
)
def test_a_damaged_file_is_set_aside_and_counting_starts_again(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "counters.json"
    path.write_bytes(content)
    counters = PersistentCounters(path, NAMES)
    assert counters.totals == dict.fromkeys(NAMES, 0)
    assert "damaged" in caplog.text
    assert (tmp_path / "counters.json.damaged").read_bytes() == content
    counters.follow({"camera_restarts": 1})
    counters.save()
    assert PersistentCounters(path, NAMES).totals["camera_restarts"] == 1


def test_a_directory_that_cannot_be_written_is_reported_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocker = tmp_path / "a file"
    blocker.touch()
    counters = PersistentCounters(blocker / "counters.json", NAMES)
    for number in range(1, 20):
        counters.follow({"camera_restarts": number})
        counters.save()
    assert counters.totals["camera_restarts"] == 19
    assert len([r for r in caplog.records if "cannot be" in r.message]) <= 2


def test_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    """Ten kills (-9) of a process that only writes: the count never decreases and the file is never damaged."""
    path = tmp_path / "counters.json"
    program = (
        "import sys; from pathlib import Path; from edge.status.counters import PersistentCounters\n"
        f"c = PersistentCounters(Path({str(path)!r}), ('n',)); n = 0\n"
        "while True:\n    n += 1; c.follow({'n': n}); c.save(); print(c.totals['n'], flush=True)\n"
    )
    noise = random.Random(4)
    last = 0
    for _ in range(10):
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            for _ in range(noise.randrange(1, 40)):
                last = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
        after = PersistentCounters(path, ("n",)).totals["n"]
        assert after >= last
        last = after
    assert not (tmp_path / "counters.json.damaged").exists()
