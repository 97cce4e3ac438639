"""Tests the status: counters over several threads, percentiles, overdue stages, and the documented keys."""

import ast
import logging
import re
import threading
from pathlib import Path

import pytest

from edge.daemon.health import LASTING
from edge.repeating_fault import RepeatingFault
from edge.status.snapshot import LATENCY_WINDOW, Status, StatusSnapshot


def test_counters_add_up_over_threads() -> None:
    status = Status()
    threads = [
        threading.Thread(target=lambda: [status.count("frames_captured") for _ in range(2000)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert status.snapshot().counters == {"frames_captured": 16_000}


def test_a_snapshot_does_not_change_and_is_json() -> None:
    status = Status()
    status.gauge(camera="online", temperature_celsius=None)
    before = status.snapshot()
    status.gauge(camera="waiting")
    assert before.to_dict() == {"camera": "online", "temperature_celsius": None, "latency_ms": {}}


def test_percentiles_are_latencies_that_happened_in_the_window() -> None:
    status = Status()
    for value in [1000.0] * 50 + [float(v) for v in range(LATENCY_WINDOW)]:
        status.observe("inference", value)
    assert status.snapshot().latency_ms == {"inference": {"p50": 256.0, "p95": 486.0, "p99": 506.0}}


def test_only_a_watched_stage_that_stops_beating_is_overdue() -> None:
    now = [0.0]
    status = Status(clock=lambda: now[0])
    status.watch("camera", 5)
    status.watch("inference", 15)
    status.beat("web")  # not watched
    now[0] = 5.1
    assert status.overdue() == {"camera": 5.1}
    status.beat("camera")
    assert status.overdue() == {}
    now[0] = 100
    status.unwatch("camera")
    assert list(status.overdue()) == ["inference"]


def test_a_fault_is_one_line_at_its_start_one_a_minute_and_one_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    fault = RepeatingFault(logging.getLogger("edge.test"), clock=lambda: now[0])
    fault.over("never logged, because nothing happened")
    for second in range(150):
        now[0] = float(second)
        fault.happened("The broker refuses us")
    fault.over("The broker is back")
    assert not fault.active
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "The broker refuses us"),
        ("WARNING", "The broker refuses us (61 times in 60 s)"),
        ("WARNING", "The broker refuses us (121 times in 120 s)"),
        ("WARNING", "The broker is back (after 149 s; failed 150 times)"),
    ]


def test_another_reason_is_news_but_two_that_alternate_are_not(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    fault = RepeatingFault(logging.getLogger("edge.test"), clock=lambda: now[0])
    for second in range(50):
        now[0] = float(second)
        fault.happened("Connection refused" if second % 2 else "No route")
    assert [record.getMessage() for record in caplog.records] == ["No route", "Connection refused (2 times in 1 s)"]


def test_a_reason_that_is_never_the_same_stays_quiet(caplog: pytest.LogCaptureFixture) -> None:
    fault = RepeatingFault(logging.getLogger("edge.test"), clock=lambda: 0.0)
    for number in range(1000):
        fault.happened(f"Error {number}")
    assert len(caplog.records) == 5


def test_a_fault_whose_end_nobody_sees_ends_with_its_count_once_it_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    fault = RepeatingFault(logging.getLogger("edge.test"), clock=lambda: now[0])
    for second in range(8):
        now[0] = float(second)
        fault.happened("A malformed request")
        fault.settle("No malformed request any more")
    now[0] = 67.0
    fault.settle("No malformed request any more")
    fault.settle("No malformed request any more")
    assert not fault.active
    fault.happened("A malformed request")
    now[0] = 200.0
    fault.settle("said already, because it happened once")
    assert not fault.active
    assert [record.getMessage() for record in caplog.records] == [
        "A malformed request",
        "No malformed request any more (8 times in 7 s)",
        "A malformed request",
    ]


def test_a_traceback_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    fault = RepeatingFault(logging.getLogger("edge.test"), clock=lambda: now[0])
    for second in (0.0, 1.0, 61.0):
        now[0] = second
        fault.happened("A fault", ZeroDivisionError("here"))
    assert [record.exc_info is not None for record in caplog.records] == [True, False]


def test_histograms_count_every_latency_since_the_start() -> None:
    status = Status()
    for milliseconds in [0.5, 1.0, 7.0, 9999.0] + [20.0] * 1000:
        status.observe("inference", milliseconds)
    histogram = status.snapshot().latencies["inference"]
    assert sum(histogram.counts) == 1004
    assert histogram.counts[0] == 2  # up to and with 1 ms
    assert histogram.counts[-1] == 1
    assert histogram.sum_ms == 0.5 + 1 + 7 + 9999 + 20 * 1000


def test_every_key_of_the_status_topic_is_explained() -> None:
    root = Path(__file__).parents[2]
    published = {f"{name}_total" for name in LASTING} | set(StatusSnapshot({}, {}, {}).to_dict())
    for file in (root / "edge").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(attr="gauge" | "_gauge"), keywords=keywords):
                    published |= {keyword.arg for keyword in keywords if keyword.arg}
                case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="_status"), attr="count"), args=args):
                    published |= {name.value for name in args[:1] if isinstance(name, ast.Constant)}
    assert {"broker", "outbox_events", "frames_classified", "latency_ms", "camera_reopens_total"} <= published
    text = (root / "docs" / "operating.md").read_text(encoding="utf-8")
    table = text.partition("### The status topic")[2].partition("\n#")[0]
    explained = {key for row in re.findall(r"^\| (.+?) \|", table, re.M) for key in re.findall(r"`(\w+)`", row)}
    assert explained == published
