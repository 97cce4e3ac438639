"""Tests that the OpenAPI document describes every field of /api/status and /api/model, which are sent unchanged."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edge
from edge.daemon.health import LASTING
from edge.interfaces.web.documents import ModelOut, StatusOut
from edge.vision.manifest import Manifest
from tests.interfaces.web.box import CLASSES, MODEL, Box, has, running


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with running() as started:
        assert has(started.recent.latest)
        yield started


def status_names() -> set[str]:
    """What the daemon's code counts, and sets as a gauge, by name."""
    names = {f"{name}_total" for name in LASTING}
    for file in Path(edge.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            called = ast.unparse(call.func)
            if called.endswith("gauge"):
                names |= {keyword.arg for keyword in call.keywords if keyword.arg}
            elif called.endswith("status.count") and isinstance(call.args[0], ast.Constant):
                names.add(str(call.args[0].value))
    return names


def test_every_gauge_and_counter_of_the_daemon_is_described() -> None:
    names = status_names()
    assert {"camera", "broker", "frames_classified", "web_error", "camera_restarts_total"} <= names
    assert names - StatusOut.model_fields.keys() == set()
    assert StatusOut.model_fields.keys() - names == {"frames_per_s", "latency_ms"}


def test_the_status_is_sent_as_it_is_also_what_is_not_described(box: Box) -> None:
    values: dict[str, Any] = {
        **{"temperature_celsius": 48, "throttled": None, "camera_size": [640, 480], "overrides": {"camera.fps": 5}},
        **{"a_later_version": {"é": [1, None]}, "uptime_s": 1e9, "fps": 0, "broker_error": "…"},
    }
    box.status.gauge(**values)
    text = box.client.get("/api/status").text
    assert {key: json.loads(text)[key] for key in values} == values
    assert '"temperature_celsius":48,' in text, "a whole number is not made a float"
    status = StatusOut.model_validate_json(text)
    assert status.latency_ms["inference"].p50 > 0


def test_the_model_is_sent_as_it_is_with_every_field_of_its_manifest_described(box: Box) -> None:
    box.described["a_later_version"] = 1
    try:
        document = box.client.get("/api/model").json()
    finally:
        del box.described["a_later_version"]
    assert document == {**MODEL, "classes": CLASSES, "a_later_version": 1}
    assert ModelOut.model_validate(document).input.size == 224
    assert Manifest.model_fields.keys() < ModelOut.model_fields.keys()


def test_the_openapi_document_has_the_fields(box: Box) -> None:
    document = box.client.get("/openapi.json").json()
    for path, name, field in (("/api/status", "StatusOut", "camera_error"), ("/api/model", "ModelOut", "architecture")):
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{name}"}
        assert field in document["components"]["schemas"][name]["properties"]
