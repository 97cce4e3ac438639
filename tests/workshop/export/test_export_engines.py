"""Tests `export --engine`: what can run here is timed and compared with FP32, and the fastest that agrees is kept."""

import argparse
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from edge.board.processor import host_target
from edge.cli import main
from edge.commands import export
from edge.errors import BundleError
from edge.settings.schema import ModelSettings
from edge.vision.bundle import load_bundle
from edge.vision.classifier import Classifier
from edge.workshop import timing
from edge.workshop.export import candidates as room
from edge.workshop.export import recipes as module
from edge.workshop.export.candidates import Candidate, choose, time_in_turns
from edge.workshop.export.exporter import export_bundle
from edge.workshop.export.network.float_network import FloatNetwork
from edge.workshop.export.recipes import recipes
from tests.networks import real_weights

host = host_target()
MANY = pytest.mark.skipif(
    host != "x86_64" or not {"onednn", "fbgemm"} <= {*torch.backends.quantized.supported_engines},
    reason="this torch has one engine only",
)


class Slow:
    """A session whose inferences set a simulated clock forward by `ms`; no time passes."""

    def __init__(self, clock: list[float], ms: float) -> None:
        self._clock, self._ms = clock, ms

    def infer(self, pixels: object) -> None:
        self._clock[0] += self._ms / 1e3


@pytest.fixture
def candidate(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], Candidate]:
    clock = [0.0]
    passing = SimpleNamespace(monotonic=lambda: clock[0], perf_counter_ns=lambda: int(clock[0] * 1e9))
    monkeypatch.setattr(timing, "time", passing)
    manifest: Any = SimpleNamespace(engine=SimpleNamespace(name="torchscript", options={}))

    def make(name: str, ms: float) -> Candidate:
        session: Any = Slow(clock, ms)
        return Candidate(name, manifest, "trunk.ts", b"", session, head=None)  # type: ignore[arg-type]

    return make


@pytest.mark.parametrize(
    ("usual_ms", "other_ms", "kept"),
    [(10.0, 5.0, "other"), (10.0, 20.0, "usual"), (10.0, 9.9, "usual"), (10.0, 9.0, "other")],
    ids=["faster", "slower", "hardly faster", "clearly faster"],
)
def test_the_fastest_is_kept_and_the_usual_one_where_the_difference_is_small(
    candidate: Callable[[str, float], Candidate], usual_ms: float, other_ms: float, kept: str
) -> None:
    usual, other = candidate("usual", usual_ms), candidate("other", other_ms)
    time_in_turns([usual, other], np.zeros(1, np.uint8), 1.0)
    assert choose([usual, other]).name == kept
    assert (usual.reason == "") == (kept == "usual")
    assert "as long" in usual.reason + other.reason


def test_one_that_is_far_slower_is_not_waited_for(candidate: Callable[[str, float], Candidate]) -> None:
    fast, slow = candidate("fast", 10.0), candidate("slow", 900.0)
    time_in_turns([fast, slow], np.zeros(1, np.uint8), 2.0)
    assert slow.reason == "takes 90.0 times as long"
    assert len(slow.times_ms) == room.LEAST
    assert len(fast.times_ms) > 100
    assert choose([slow, fast]) is fast


def test_one_that_does_not_follow_fp32_is_not_kept_however_fast(candidate: Callable[[str, float], Candidate]) -> None:
    fast, sound = candidate("fast", 1.0), candidate("sound", 2.0)
    time_in_turns([sound, fast], np.zeros(1, np.uint8), 0.1)
    fast.reason = "INT8 agrees with FP32 on 12.0 % of 48 views; use other weights."
    assert choose([sound, fast]) is sound
    sound.reason = "INT8 agrees with FP32 on 13.0 % of 48 views; use other weights."
    with pytest.raises(BundleError, match=r"on 12\.0 %"):
        choose([sound, fast])


@MANY
def test_the_figures_of_every_engine_are_in_the_bundle_and_in_the_table(tmp_path: Path) -> None:
    steps: list[str] = []
    weights = real_weights("efficientnet_lite0")
    exported = export_bundle(weights, tmp_path / "models", engine="auto", timing_s=0.1, threads=1, step=steps.append)
    measured = load_bundle(exported.directory).manifest.measured
    assert measured is not None
    assert measured.threads == 1
    rows = {str(row.options["kernels"]): row for row in measured.candidates}
    assert rows.keys() == {"onednn", "fbgemm", "xnnpack"}
    (kept,) = (row for row in measured.candidates if not row.reason)
    assert (kept.agrees, kept.ms) == (True, measured.ms)
    assert kept.options == exported.manifest.engine.options
    assert measured.ms == min(row.ms for row in measured.candidates if row.ms is not None and row.agrees)
    assert "timing onednn, fbgemm" in " ".join(steps)
    table = exported.to_table()
    assert "torchscript onednn" in table
    assert "torchscript fbgemm" in table
    assert exported.to_dict()["measured"]["candidates"][0]["ms"] == rows["onednn"].ms
    assert Classifier(load_bundle(exported.directory), ModelSettings(threads=1)).name == exported.directory.name


def test_an_engine_that_cannot_be_had_here_is_a_sentence_where_it_is_insisted_on(
    weights_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "edge" if host == "x86_64" else "fbgemm"
    given = ["export", "--weights", str(weights_file), "--output", str(tmp_path / "models"), "--engine", other]
    assert main(given) == 65
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"No model for the engine {other} can be made here: " in last
    assert last.endswith("; name another engine, or leave --engine out.")
    assert not list(tmp_path.glob("models/*"))


def test_the_engines_name_in_the_bundle_is_taken_too() -> None:
    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    assert parser.parse_args([]).engine == parser.parse_args(["--engine", "torchscript"]).engine == "auto"
    assert parser.parse_args(["--engine", "onnxruntime"]).engine == "onnxruntime"


def test_a_bundle_for_another_machine_is_made_for_its_usual_engine_and_that_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be made here, because only the machine's name is changed: the kernels are this machine's."""
    monkeypatch.setattr("platform.machine", lambda: "aarch64" if host == "x86_64" else "x86_64")
    steps: list[str] = []
    weights = real_weights("efficientnet_lite0")
    exported = export_bundle(weights, tmp_path / "models", target=host, engine="auto", step=steps.append)
    assert exported.manifest.measured is None
    assert f"engines for {host} cannot be timed on this machine, so the one that is usually the fastest" in steps[2]


def broken() -> str:
    raise BundleError("ONNX Runtime cannot be imported.")


def test_what_is_tried_is_what_can_run(network: FloatNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    built = SimpleNamespace(
        __version__="2.9.1", backends=SimpleNamespace(quantized=SimpleNamespace(supported_engines=["qnnpack", "none"]))
    )
    monkeypatch.setattr(module, "torch", built)
    monkeypatch.setattr(module, "host_target", lambda: "arm64")
    monkeypatch.setattr(module, "use_kernels", lambda kernels: None)
    monkeypatch.setattr(module.library, "unavailable", lambda: "" if network.architecture.name == "resnet18" else "x")
    for has_xnnpack, expected in ((True, ["xnnpack"]), (False, ["qnnpack"])):
        monkeypatch.setattr(module, "runs_qint8", lambda has=has_xnnpack: has)
        found, refused = recipes("auto", "arm64", network)
        ours = ["edge"] if network.architecture.name == "resnet18" else []
        assert sorted(one.name for one in found) == sorted(expected + ours)
        assert {one.name for one in refused} == {"xnnpack", "edge"} - {one.name for one in found}
        assert [one.name for one in recipes(None, "arm64", network)[0]] == expected
    monkeypatch.setattr(module.onnxruntime, "unavailable", lambda: "")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: SimpleNamespace())
    monkeypatch.setattr(module.onnxruntime, "describe", broken)
    _, refused = recipes("fastest", "arm64", network)  # the others are compared nevertheless
    assert ("onnxruntime", "ONNX Runtime cannot be imported") in [(one.name, one.reason) for one in refused]
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    _, refused = recipes("fastest", "arm64", network)
    assert ("onnxruntime", "ONNX Runtime is not installed") in [(one.name, one.reason) for one in refused]
    remedy = r"is not installed; install it \(`pip install onnxruntime==1\.22\.1`\), name another"
    with pytest.raises(BundleError, match=remedy):
        recipes("onnxruntime", "arm64", network)


def test_a_time_that_is_none_is_refused_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("soon", "-1", "nan", "1e9"):
        with pytest.raises(SystemExit):
            main(["export", f"--seconds={text}"])
        assert "must be seconds, from 0 to 600" in capsys.readouterr().err
