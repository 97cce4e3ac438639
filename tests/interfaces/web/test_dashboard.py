"""Tests that the dashboard and the alerts use metrics that a box provides, and that all of these are documented."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.interfaces.web.box import has, running

DEPLOY = Path(__file__).parents[3] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"
RULES = DEPLOY / "prometheus" / "edge-classifier.rules.yml"
DOCUMENTATION = DEPLOY.parent / "docs" / "web.md"
GRID_COLUMNS = 24
NOT_OURS = {"up"}  # Prometheus makes it


@pytest.fixture(scope="module")
def series() -> set[str]:
    """The name of every series that a box provides."""
    with running() as box:
        assert has(lambda: "stage=" in box.client.get("/metrics").text)
        text = box.client.get("/metrics").text
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples} | NOT_OURS


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return document


def documented() -> set[str]:
    """The metrics in the table of docs/web.md, where `x_{a,b}` are two and `_a` begins like the one before."""
    table = DOCUMENTATION.read_text(encoding="utf-8").partition("| metric | meaning |")[2].partition("\n\n")[0]
    found = set()
    for name in re.findall(r"`([\w{},]+)`", "\n".join(row.split("|")[1] for row in table.splitlines() if "|" in row)):
        before, _, choices = name.partition("{")
        inner, _, after = choices.partition("}")
        found |= {
            f"edge_classifier_{(before + one + after).removeprefix('edge_classifier').lstrip('_')}"
            for one in inner.split(",")
        }
    return found


def asked(expression: str) -> set[str]:
    """The metrics in a PromQL expression or a label_values() query."""
    return set(re.findall(r"\b(up|(?:edge_classifier|process)_\w+)\b", expression))


def expressions(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def test_every_metric_of_the_box_is_documented(series: set[str]) -> None:
    ours = {re.sub("_(bucket|sum|count|created)$", "", name) for name in series if name.startswith("edge_classifier_")}
    assert len(ours) > 30
    assert ours <= documented()


def test_the_dashboard_asks_for_what_a_box_gives(dashboard: dict[str, Any], series: set[str]) -> None:
    for expression in expressions(dashboard):
        assert asked(expression), expression
        assert asked(expression) <= series, expression


def test_every_alert_asks_for_what_a_box_gives(series: set[str]) -> None:
    lines = re.findall(r"expr: (.+)", RULES.read_text(encoding="utf-8"))
    assert len(lines) == RULES.read_text(encoding="utf-8").count("alert:")
    for expression in lines:
        assert asked(expression) <= series, expression


def test_the_dashboard_can_be_imported_anywhere(dashboard: dict[str, Any]) -> None:
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time"} <= set(dashboard)
    assert "id" not in dashboard  # the id of one Grafana's database
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard))) <= variables
    for panel in dashboard["panels"]:
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


def test_no_panel_lies_over_another(dashboard: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    assert all(place["x"] + place["w"] <= GRID_COLUMNS for place in places)
    for one, other in itertools.combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


def test_every_rate_is_of_a_counter(dashboard: dict[str, Any]) -> None:
    for expression in expressions(dashboard):
        for metric in re.findall(r"(?:rate|increase)\((\w+)", expression):
            assert metric.endswith(("_total", "_bucket")), expression
