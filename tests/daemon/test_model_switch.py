"""Tests that a model that cannot replace the running one is refused and leaves everything as it was."""

import importlib.util
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.daemon.model_switch import ModelSwitch
from edge.daemon.pipeline import Pipeline
from edge.errors import BundleError, ConfigError, StateError
from edge.settings.schema import ModelSettings
from edge.status.snapshot import Status
from edge.vision.bundle import Bundle
from edge.vision.classifier import Classifier
from edge.workshop.export.exporter import export_bundle
from tests.networks import real_weights
from tests.vision.signed import install, signed, with_other_labels


class Stage(Pipeline[Any]):
    """Stands in for the pipeline, without its threads, and records what was swapped in."""

    def __init__(self, room: bool = True) -> None:
        self.models: list[Classifier] = []
        self.room = room
        self.inferring = threading.Lock()

    def swap(self, model: Any, commit: Callable[[], object] = lambda: None) -> None:
        if not self.room:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        commit()
        self.models.append(model)


def test_what_cannot_run_next_to_the_running_one_is_refused(bundle_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    engines = {"onednn": "fbgemm", "fbgemm": "onednn", "qnnpack": "onednn"}

    def change(document: dict[str, Any]) -> None:
        options = document["engine"]["options"]
        options["kernels"] = engines[options["kernels"]]

    other = signed(bundle_dir, tmp_path / "other", change)
    things = with_other_labels(bundle_dir, tmp_path / "things")
    installed = install(tmp_path / "models", bundle_dir, other, things)
    settings, status, free, stage = ModelSettings(bundle=installed.directory / "current"), Status(), [1 << 40], Stage()
    model = ModelSwitch(settings, status, Classifier, lambda: free[0])
    model.load()

    def refusal(name: str) -> str:
        with pytest.raises(BundleError) as refused:
            model.use(name, stage)
        assert (stage.models, installed.current) == ([], bundle_dir.name)
        assert status.snapshot().gauges["model"] == model.description["name"] == bundle_dir.name
        return str(refused.value)

    assert "needs the engine" in refusal(other.name)
    free[0] = 10 << 20
    assert "10 MB are free" in refusal(things.name)
    free[0] = 1 << 40
    assert model.use(things.name, stage) == things.name
    assert [one.labels[0] for one in stage.models] == ["thing 0"]
    assert status.snapshot().gauges["model"] == model.description["name"] == things.name


def test_the_library_of_another_engine_needs_room_too(
    bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon of 256 MB that has run without torch would be killed while it imports it."""
    things = with_other_labels(bundle_dir, tmp_path / "things")
    installed = install(tmp_path / "models", bundle_dir, things)
    settings, stage = ModelSettings(bundle=installed.directory / "current"), Stage()
    model = ModelSwitch(settings, Status(), Classifier, lambda: 150 << 20)
    model.load()
    with monkeypatch.context() as without:
        without.delitem(sys.modules, "torch")
        with pytest.raises(BundleError, match="150 MB are free"):
            model.use(things.name, stage)
        without.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(BundleError, match="needs torch, which is not installed here"):  # not that it needs room
            model.use(things.name, stage)
    assert (stage.models, installed.current) == ([], bundle_dir.name)
    assert model.use(things.name, stage) == things.name


def test_bundles_of_torch_and_of_onnx_runtime_replace_each_other(bundle_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    other = export_bundle(real_weights("efficientnet_lite0"), tmp_path / "made", engine="onnxruntime", timing_s=0)
    installed = install(tmp_path / "models", bundle_dir, other.directory)
    model, stage = ModelSwitch(ModelSettings(bundle=installed.directory / "current"), Status(), Classifier), Stage()
    model.load()
    for name in (other.directory.name, bundle_dir.name):
        assert model.use(name, stage) == name
        assert stage.models[-1].name == model.description["name"] == installed.current == name


def test_a_bundle_that_the_config_names_for_good_stays(bundle_dir: Path) -> None:
    model = ModelSwitch(ModelSettings(bundle=bundle_dir), Status(), Classifier)
    model.load()
    with pytest.raises(ConfigError, match="for good"):
        model.use(bundle_dir.name, Stage())


def test_a_link_that_cannot_be_switched_leaves_everything_as_it_was(bundle_dir: Path, tmp_path: Path) -> None:
    things = with_other_labels(bundle_dir, tmp_path / "things")
    installed = install(tmp_path / "models", bundle_dir, things)
    model = ModelSwitch(ModelSettings(bundle=installed.directory / "current"), Status(), Classifier)
    model.load()
    (installed.directory / "previous").mkdir()  # a directory where a link belongs
    stage = Stage()
    with pytest.raises(StateError, match="cannot be switched"):
        model.use(things.name, stage)
    assert (stage.models, installed.current) == ([], bundle_dir.name)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't allocate memory: you tried to allocate 4096 bytes"),
        RuntimeError("can't start new thread"),
        MemoryError(),
        AttributeError("'tuple' object has no attribute 'numpy'"),
        TypeError("'int' object is not subscriptable"),
        Exception("The following operation failed in the TorchScript interpreter."),
    ],
    ids=repr,
)
def test_a_model_that_cannot_be_made_is_refused_whatever_torch_calls_it(
    bundle_dir: Path, tmp_path: Path, error: Exception
) -> None:
    things = with_other_labels(bundle_dir, tmp_path / "things")
    installed = install(tmp_path / "models", bundle_dir, things)

    def make(bundle: Bundle, settings: ModelSettings) -> Classifier:
        if bundle.name == things.name:
            raise error
        return Classifier(bundle, settings)

    model, stage = ModelSwitch(ModelSettings(bundle=installed.directory / "current"), Status(), make), Stage()
    model.load()
    with pytest.raises(BundleError, match="cannot be run here"):
        model.use(things.name, stage)
    assert (stage.models, installed.current, model.description["name"]) == ([], bundle_dir.name, bundle_dir.name)


def test_without_room_for_its_buffers_a_model_is_not_switched_to(bundle_dir: Path, tmp_path: Path) -> None:
    things = with_other_labels(bundle_dir, tmp_path / "things")
    installed = install(tmp_path / "models", bundle_dir, things)
    model = ModelSwitch(ModelSettings(bundle=installed.directory / "current"), Status(), Classifier)
    model.load()
    with pytest.raises(BundleError, match="can't allocate memory"):
        model.use(things.name, Stage(room=False))
    assert (installed.current, model.description["name"]) == (bundle_dir.name, bundle_dir.name)
