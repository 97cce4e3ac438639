"""Tests with random requests that the API does what its OpenAPI document describes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import fuzzing
from tests.interfaces.web.box import running

NEVER_END = ("/api/stream",)
INFER = "/v2/models/{name}/infer"


def fuzzed(address: str, folder: Path, *more: str) -> str:
    """Run schemathesis for `fuzzing.SECONDS`; returns its report, and fails if it found a fault."""
    pytest.importorskip("schemathesis", reason="schemathesis needs Python 3.11")
    arguments = ["run", f"{address}/openapi.json", "--max-examples", "25", "--request-timeout", "10"]
    arguments += ["--phases", "examples,coverage,fuzzing", "--no-color"]
    arguments += ["--exclude-path-regex", "/versions/"]  # the same routes under a second path
    arguments += ["--max-time", str(fuzzing.SECONDS)] if fuzzing.SECONDS else ["--seed", "6"]
    for path in NEVER_END:
        arguments += ["--exclude-path", path]
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *arguments, *more],
        cwd=folder,  # schemathesis writes a folder of examples there
        capture_output=True,
        text=True,
        timeout=fuzzing.TIMEOUT_S - 10,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_path_is_documented_with_its_problems() -> None:
    with running() as box:
        document: dict[str, Any] = box.client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/predict", "/api/latest", "/api/events", "/api/status", "/api/model", "/api/history", "/api/stream",
        "/snapshot.jpg", "/stream.mjpg", "/healthz", "/readyz", "/metrics", "/api/labels",
        "/v2", "/v2/health/live", "/v2/health/ready",
        *(f"/v2/models/{{name}}{version}{rest}"
          for version in ("", "/versions/{version}") for rest in ("", "/ready", "/infer")),
    }  # fmt: skip
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], path
            assert operation["tags"], path
            for status, response in operation["responses"].items():
                if status not in ("200", "207", "304"):
                    kind = "application/json" if path.startswith("/v2") else "application/problem+json"
                    assert list(response["content"]) == [kind], (path, method, status)


@pytest.mark.timeout(fuzzing.TIMEOUT_S)
def test_fuzzed_questions_get_what_the_document_says(tmp_path: Path) -> None:
    with running() as box, fuzzing.bounded():
        # Random bytes are no photo, so a valid request to classify them need not succeed.
        fuzzed(box.server.address, tmp_path, "--exclude-path", "/predict", "--exclude-path", INFER)


@pytest.mark.timeout(fuzzing.TIMEOUT_S)
def test_fuzzed_photos_never_break_the_server(tmp_path: Path) -> None:
    with running() as box, fuzzing.bounded():
        report = fuzzed(
            *(box.server.address, tmp_path, "--include-path", "/predict", "--include-path", INFER),
            *("--exclude-checks", "positive_data_acceptance"),
        )
        assert box.client.get("/healthz").status_code == 200
    assert "passed" in report
