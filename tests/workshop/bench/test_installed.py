"""Tests the comparison of the installed bundles: in turn, each in its own process, and a reason for each that fails."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.settings.schema import ModelSettings
from edge.vision.bundle import MANIFEST, bundle_name, load_bundle
from edge.vision.head import Head
from edge.vision.installed import Installed
from edge.workshop.bench.cold_start import import_library_s
from edge.workshop.bench.installed import compare_installed
from edge.workshop.bench.result import InstalledBundle
from edge.workshop.bench.share import shared
from edge.workshop.bench.table import comparison, installed_table, table
from tests.vision.signed import install, signed
from tests.workshop.bench.results import result

SETTINGS = ModelSettings(threads=1)
FAST = InstalledBundle(
    name="resnet18-int8-3fa9c1",
    current=True,
    engine="torchscript edge",
    agreement=98.5,
    golden=True,
    p50_ms=31.25,
    memory_mb=290.0,
)
WRONG = FAST.model_copy(
    update={
        "name": "efficientnet_lite0-int8-aff2f0",
        "current": False,
        "golden": False,
        "p50_ms": None,
        "memory_mb": None,
        "reason": "/srv/models/efficientnet_lite0-int8-aff2f0 needs a library that is missing here; install it.",
    }
)


@pytest.fixture(scope="module")
def models(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Three bundles: a good one, one whose golden photo has another answer, and one that is cut short."""
    home = tmp_path_factory.mktemp("models")
    shutil.copytree(bundle_dir, home / bundle_dir.name)
    manifest = json.loads((bundle_dir / MANIFEST).read_text(encoding="utf-8"))
    manifest["golden"][0]["index"], manifest["golden"][1]["index"] = (
        manifest["golden"][1]["index"],
        manifest["golden"][0]["index"],
    )
    text = json.dumps(manifest).encode()
    wrong = home / bundle_name(text, manifest["architecture"], manifest["precision"])
    shutil.copytree(bundle_dir, wrong, ignore=shutil.ignore_patterns("bundle.sha256"))
    (wrong / MANIFEST).write_bytes(text)
    cut = home / "resnet18-int8-000000"
    cut.mkdir()
    (cut / MANIFEST).write_text("{", encoding="utf-8")
    (home / "current").symlink_to(bundle_dir.name)
    return Installed(home)


@pytest.mark.timeout(120)
def test_a_bundle_that_cannot_run_is_a_row_with_its_reason(models: Installed, bundle_dir: Path) -> None:
    steps: list[str] = []
    good, *others = compare_installed(models, SETTINGS, 0.1, steps.append)
    assert (good.name, good.current, good.golden, good.reason) == (bundle_dir.name, True, True, "")
    assert good.p50_ms is not None
    assert good.p50_ms > 0
    assert good.memory_mb is not None
    assert good.memory_mb > 50
    assert good.engine == str(load_bundle(bundle_dir).manifest.engine)
    reasons = {other.name: other.reason for other in others}
    assert len(steps) == len(reasons) + 1 == 3
    assert all(other.p50_ms is None and not other.golden and not other.current for other in others)
    assert "is not a manifest" in reasons.pop("resnet18-int8-000000")
    (wrong,) = reasons.values()
    assert "answers its golden photo with" in wrong


@pytest.mark.timeout(120)
def test_without_room_for_all_they_run_one_after_the_other(bundle_dir: Path, tmp_path: Path) -> None:
    """The process of the second bundle would push the first one out of memory on a small board."""
    for name in (bundle_dir.name, "resnet18-int8-000000"):
        shutil.copytree(bundle_dir, tmp_path / name)
    asked = []

    def nothing_free() -> int:
        asked.append(True)
        return 0

    rows = compare_installed(Installed(tmp_path), SETTINGS, 0.1, free_bytes=nothing_free)
    assert asked == [True]
    assert [row.p50_ms is not None for row in rows] == [True, False]
    assert "should be called" in rows[1].reason


def onnx_bundle(original: Path, folder: Path) -> Path:
    """A bundle for ONNX Runtime that answers every photo with 90 % for the first class."""
    mean_colour = pytest.importorskip("tests.vision.test_engine_onnxruntime").mean_colour()
    classes = len(load_bundle(original).labels)
    rest = np.full(classes - 2, 0.05 / (classes - 2))
    bias = np.log(np.concatenate([[0.9, 0.05], rest])).astype(np.float32)
    head = Head(np.zeros((classes, 3), np.float32), bias, 1.0)

    def change(document: dict[str, Any]) -> None:
        document["engine"] = {"name": "onnxruntime"}
        document["input"] |= {"size": 32, "resize": 32, "border": [0, 0]}
        document |= {"features": 3, "target": "any"}
        document["quantization"]["small_pairs"] = True
        document["golden"] = [{"index": 0, "confidence": 90.0}, {"index": 1, "confidence": 5.0}]

    return signed(original, folder, change, model=mean_colour, head=head.to_bytes())


@pytest.mark.timeout(120)
def test_on_a_box_without_torch_the_others_are_measured(
    bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    models, broken = tmp_path / "models", tmp_path / "packages"
    onnx = onnx_bundle(bundle_dir, tmp_path)
    installed = install(models, onnx, bundle_dir)
    (broken / "torch").mkdir(parents=True)
    (broken / "torch/__init__.py").write_text("raise ImportError('there is no torch here')\n")
    monkeypatch.syspath_prepend(broken)  # the processes of the bundles get this path
    fast, missing = compare_installed(installed, SETTINGS, 0.1)
    assert (fast.name, fast.engine, fast.golden, fast.reason) == (onnx.name, "onnxruntime", True, "")
    assert missing.name == bundle_dir.name
    assert "torch" in missing.reason
    assert import_library_s("onnxruntime") > 0


def test_the_table_fits_80_columns_and_marks_the_one_in_use() -> None:
    lines = list(installed_table([FAST, WRONG]))
    assert max(map(len, lines)) <= 80
    assert lines[2].split() == ["*", FAST.name, "torchscript", "edge", "31.25", "290", "98.5%", "yes"]
    assert lines[3].split() == [WRONG.name, "torchscript", "edge", "–", "–", "98.5%", "–"]
    assert "needs a library that is missing" in " ".join(lines)
    assert FAST.name in table(result(model="another", installed=(FAST, WRONG)))
    assert FAST.name in comparison(result(), result(model="another", installed=(FAST, WRONG)))
    assert "installed" not in table(result())


def test_the_json_has_them_and_a_shared_one_has_no_path() -> None:
    one = result(installed=(FAST, WRONG))
    assert json.loads(one.to_json())["installed"][0]["p50_ms"] == 31.25
    text = shared(one, []).to_json()
    assert "/srv" not in text
    assert "needs a library that is missing here" in text
