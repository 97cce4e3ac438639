"""Tests the comparison with other engines: ratios of interleaved rounds, and a message for a missing engine."""

import importlib
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from benchmarks.arrangements import Arrangement, Loader
from benchmarks.engines import OURS, REFERENCE
from benchmarks.flood import HERE
from benchmarks.peers import KINDS, Result, disturbance, truth
from benchmarks.report import BUSY, HEAD, arrangements, markdown
from tests.daemon_process import CHECKOUT

TRUTH = {"a.JPEG": 1, "b.JPEG": 2}


def engine(name: str, milliseconds: list[float], top: tuple[int, int] = (1, 2)) -> Result:
    """An engine whose rounds took these times, and twice as much processor time."""
    result = Result(name, version="1.0", top=dict(zip(TRUTH, top, strict=True)), resident_mb=100)
    for kind in KINDS:
        result.rounds[kind] = [[ms, ms, ms] for ms in milliseconds]
        result.processor[kind] = [2 * ms for ms in milliseconds]
    return result


def test_a_ratio_is_the_median_of_the_rounds_so_that_one_busy_moment_changes_nothing() -> None:
    ours, other = engine(OURS, [10, 10, 80]), engine("other", [20, 20, 160])
    assert other.ratio("infer", ours) == 2
    assert other.fastest_ms("infer") == 20
    assert ours.median_ms("infer") == 10


def test_the_tables_name_every_engine_its_accuracy_and_what_is_missing() -> None:
    missing = Result("ncnn INT8", failure="it ended with 1")
    results = [engine(OURS, [10.0], (1, 3)), engine(REFERENCE, [50.0]), missing]
    text = markdown(results, TRUTH, OURS, REFERENCE, "a CPU, 1 threads")
    (ours,) = [line for line in text.splitlines() if line.startswith(f"| **{OURS}**") and "%" in line]
    cells = [cell.strip() for cell in ours.strip("|").split("|")]
    assert cells == [f"**{OURS}**", "1.0", "10.0", "1.00", "10.0", "20.0", "1.00", "100", "50.0%", "50.0%"]
    assert f"| {REFERENCE} | 1.0 | 50.0 | 5.00 |" in text
    assert "| ncnn INT8 | | not measured: it ended with 1 |" in text


def test_what_was_measured_beside_busy_loops_has_its_own_table() -> None:
    ours, other = engine(OURS, [10.0]), engine("other", [20.0])
    for result, factor in ((ours, 2), (other, 4)):
        for kind in KINDS:
            result.rounds[kind + BUSY] = [[factor * ms for ms in one] for one in result.rounds[kind]]
            result.processor[kind + BUSY] = list(result.processor[kind])
    text = markdown([ours, other], TRUTH, OURS, REFERENCE, "a CPU")
    assert "| other | 80.0 | 4.00 | 40.0 | 80.0 | 4.00 | 40.0 |" in text.split("## Beside busy loops")[1]
    assert "| other | 20.0 | 2.00 | 40.0 | 80.0 | 4.00 | 40.0 |" in arrangements([ours, other])


@pytest.mark.parametrize("loader", ["ended", "same", "other"])
def test_an_arrangement_loads_in_the_thread_that_it_names(loader: Loader) -> None:
    thread = Arrangement(loader).load(threading.current_thread)
    assert (thread is threading.main_thread()) == (loader != "ended")
    assert thread.is_alive() == (loader != "ended")


def test_the_published_document_says_what_the_next_one_will() -> None:
    """docs/benchmarks.md has the text of benchmarks/report.py, so both have to be changed together."""
    document = (CHECKOUT / "docs/benchmarks.md").read_text(encoding="utf-8")
    for words in re.split(r"\{\w+\}", HEAD):
        assert words in document


def test_labels_are_read_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,index\na.JPEG,1\nb.JPEG,2\n")
    assert truth(tmp_path) == TRUTH


def test_a_run_next_to_other_work_is_marked() -> None:
    assert disturbance(1.2) == "Nothing else ran"
    assert "The load was 11" in disturbance(11.1)


@pytest.mark.slow
def test_this_project_answers_in_a_separate_process(bundle_dir: Path, variants: list[Path], tmp_path: Path) -> None:
    (tmp_path / "bundle").symlink_to(bundle_dir)
    photos = tmp_path / "photos"
    photos.mkdir()
    for picture in variants[:20]:
        (photos / f"{picture.stem}.JPEG").symlink_to(picture)
    arguments = [OURS, tmp_path, "no weights", "1", photos, photos, "5"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.worker", *map(str, arguments)],
        input='{"do": "infer"}\n{"do": "classify"}\n{"do": "labels"}\n',
        capture_output=True,
        text=True,
        check=True,
        cwd=CHECKOUT,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        timeout=110,
    )
    loaded, infer, classify, labels = map(json.loads, done.stdout.splitlines())
    assert loaded["loaded_s"] > 0
    assert len(infer["ms"]) == len(classify["cpu_ms"]) == 20
    assert len(labels["top"]) == 5
    assert labels["resident_mb"] > 50


@pytest.mark.parametrize(
    "name", ["agreement", "arrangements", "engines", "flood", "footprint", "networks", "peers", "worker"]
)
def test_a_benchmark_can_be_imported(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")


@pytest.mark.parametrize("client", ["flood.py", "strangers.py"])
def test_the_flood_has_its_clients(client: str) -> None:
    assert (HERE / client).is_file()


def test_the_pytest_plugin_that_the_engines_bring_does_not_stop_the_tests(tmp_path: Path) -> None:
    """hydra-core has a plugin; installed with `--no-deps`, it fails when imported."""
    plugin = tmp_path / "hydra_core-1.3.8.dist-info"
    plugin.mkdir()
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: hydra-core\nVersion: 1.3.8\n", encoding="utf-8")
    (plugin / "entry_points.txt").write_text("[pytest11]\nhydra_pytest = hydra.pytest_plugin\n", encoding="utf-8")
    (tmp_path / "hydra").mkdir()
    (tmp_path / "hydra/__init__.py").write_text("import antlr4_that_nobody_installed\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/decision/test_decider.py", "--collect-only", "-q"],
        cwd=CHECKOUT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
