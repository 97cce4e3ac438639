"""Tests with Prometheus' own promtool that every alert fires when it should, and only then."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PROMETHEUS = Path(__file__).parents[3] / "deploy" / "prometheus"
RULES = PROMETHEUS / "edge-classifier.rules.yml"
SUMMARY = "a sentence"
BOX = '{instance="porch.local:5000", job="edge-classifier"}'
# The series that the alerts ask for.
UP = f"up{BOX}"
OTHER_JOB = 'up{instance="x", job="node"}'
STARTED = f"process_start_time_seconds{BOX}"
CAMERA = f"edge_classifier_camera_online{BOX}"
FRAMES = f"edge_classifier_frames_classified_total{BOX}"
BROKER = f"edge_classifier_broker_online{BOX}"
LOG = f"edge_classifier_fallback_log_used_ratio{BOX}"
DROPPED = f"edge_classifier_events_dropped_total{BOX}"
CLOCK = f"edge_classifier_clock_synchronised{BOX}"
THROTTLED = f"edge_classifier_throttled{BOX}"
TOKENS = 'edge_classifier_http_refusals_total{instance="porch.local:5000", job="edge-classifier", reason="wrong_token"}'


class Case(NamedTuple):
    """What Prometheus has scraped every minute, and when it is asked whether the alert fires."""

    what: str
    alert: str
    series: dict[str, str]  # in promtool's notation: 0+5x9 is 0, 5, 10 … and _ is a scrape that failed
    at: str
    fires: bool


CASES = [
    Case("switched off", "EdgeBoxAway", {UP: "1 0x20"}, "10m", True),
    Case("a reboot of three minutes", "EdgeBoxAway", {UP: "1 0 0 0 1x20"}, "5m", False),
    Case("another job", "EdgeBoxAway", {OTHER_JOB: "0x20"}, "15m", False),
    Case("a crash every ten minutes", "EdgeRestarts", {STARTED: "100x9 700x9 1300x9 1900x9 2500x9"}, "45m", True),
    Case("a crash every scrape", "EdgeRestarts", {STARTED: "100+60x20"}, "10m", True),
    Case(
        "crashes with failed scrapes", "EdgeRestarts", {STARTED: "100 _ 200 _ _ 300 _ 400 _ _ 500 500x9"}, "15m", True
    ),
    Case("an upgrade and a reboot", "EdgeRestarts", {STARTED: "100x9 700x9 1300x40"}, "50m", False),
    Case("crashes of last night", "EdgeRestarts", {STARTED: "100+60x9 1000x200"}, "120m", False),
    Case("unplugged", "EdgeCameraAway", {CAMERA: "1 0x20"}, "10m", True),
    Case("a loose plug", "EdgeCameraAway", {CAMERA: "1 0 0 1 0 0 1x20"}, "6m", False),
    Case("stalled", "EdgeFramesStalled", {FRAMES: "0+600x10 6000x30", CAMERA: "1x40"}, "30m", True),
    Case("never began", "EdgeFramesStalled", {FRAMES: "0x40", CAMERA: "1x40"}, "20m", True),
    Case(
        "a frame every 100 s",
        "EdgeFramesStalled",
        {FRAMES: "0 0 1 1 2 3 3 4 4 5 6 6 7 7 8 9 9 10 10 11 12 12 13 13 14 15 15 16 16 17 18", CAMERA: "1x40"},
        "30m",
        False,
    ),
    Case("restarted", "EdgeFramesStalled", {FRAMES: "0+600x20 0+600x20", CAMERA: "1x40"}, "25m", False),
    Case("no camera is another alert", "EdgeFramesStalled", {FRAMES: "6000x40", CAMERA: "0x40"}, "30m", False),
    Case("no broker", "EdgeBrokerAway", {BROKER: "1 0x30"}, "20m", True),
    Case("the broker restarts", "EdgeBrokerAway", {BROKER: "1 0x9 1x20"}, "14m", False),
    Case("filling", "EdgeLogNearlyFull", {LOG: "0+0.05x20"}, "24m", True),
    Case("half full", "EdgeLogNearlyFull", {LOG: "0.5x30"}, "20m", False),
    Case("emptied in time", "EdgeLogNearlyFull", {LOG: "0.9 0.9 0.9 0.1x20"}, "8m", False),
    Case("a full log", "EdgeEventsDropped", {DROPPED: "0x10 90x10"}, "15m", True),
    Case("dropped last month", "EdgeEventsDropped", {DROPPED: "90x90"}, "80m", False),
    Case("no time server", "EdgeClockNotSet", {CLOCK: "0x30"}, "20m", True),
    Case("set after the start", "EdgeClockNotSet", {CLOCK: "0x5 1x30"}, "20m", False),
    Case("hot", "EdgeThrottled", {THROTTLED: "0 1x30"}, "20m", True),
    Case("hot for a moment", "EdgeThrottled", {THROTTLED: "0 1x9 0x30"}, "12m", False),
    Case("guessing", "EdgeWrongTokens", {TOKENS: "0+10x30"}, "10m", True),
    Case("mistyped", "EdgeWrongTokens", {TOKENS: "0x5 3x30"}, "15m", False),
]


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    return found


def rules() -> dict[str, str]:
    """The severity of each alert."""
    text = RULES.read_text(encoding="utf-8")
    return dict(re.findall(r"- alert: (\w+)\n(?:(?!- alert:)(?:.|\n))*?labels: \{severity: (\w+)\}", text))


def test_every_alert_has_a_severity_and_is_seen_firing_and_silent() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8"))
    assert list(rules()) == alerts
    assert set(rules().values()) == {"critical", "warning"}
    for fires in (True, False):
        assert {case.alert for case in CASES if case.fires is fires} == set(alerts)


def test_the_alerts_are_in_the_table_of_the_documentation() -> None:
    table = (RULES.parents[2] / "docs" / "web.md").read_text(encoding="utf-8")
    for alert, severity in rules().items():
        assert re.search(rf"^\| `{alert}` \| {severity} \|", table, re.MULTILINE), alert


def test_promtool_accepts_the_rules_and_the_scrape_configuration(promtool: str, tmp_path: Path) -> None:
    config = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
    (tmp_path / RULES.name).write_text(RULES.read_text(encoding="utf-8"))
    token = tmp_path / "token"
    token.touch()
    (tmp_path / "prometheus.yml").write_text(config.replace("/etc/prometheus/edge-classifier-token", str(token)))
    for command in (["check", "rules", RULES.name], ["check", "config", "prometheus.yml"]):
        done = subprocess.run([promtool, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_only_then(promtool: str, tmp_path: Path) -> None:
    def document(case: Case) -> dict[str, Any]:
        labels = dict(re.findall(r'(\w+)="([^"]+)"', next(iter(case.series))))
        expected = {**labels, "severity": rules()[case.alert]}
        series = [{"series": name, "values": values} for name, values in case.series.items()]
        test: dict[str, Any] = {"eval_time": case.at, "alertname": case.alert, "exp_alerts": []}
        if case.fires:
            test["exp_alerts"] = [{"exp_labels": expected, "exp_annotations": {"summary": SUMMARY}}]
        return {
            "interval": "1m",
            "name": f"{case.alert}: {case.what}",
            "input_series": series,
            "alert_rule_test": [test],
        }

    # Their sentences contain values, so one sentence replaces all of them here.
    text = re.sub(r'summary: ".*"', f'summary: "{SUMMARY}"', RULES.read_text(encoding="utf-8"))
    (tmp_path / RULES.name).write_text(text)
    tests = tmp_path / "alerts.test.yml"  # JSON is YAML too
    tests.write_text(json.dumps({"rule_files": [RULES.name], "tests": [document(case) for case in CASES]}))
    done = subprocess.run([promtool, "test", "rules", str(tests)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
