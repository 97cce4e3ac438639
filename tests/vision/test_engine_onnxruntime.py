"""Tests the engine `onnxruntime`: what it answers, what it refuses, and what it leaves alone."""

import importlib.util
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge.board.processor import host_target
from edge.errors import BundleError
from edge.vision.engines import engine_of, onnxruntime, processor_check
from edge.vision.engines.engine import Session
from edge.vision.manifest import Manifest
from edge.workshop.export.quantize import onnx_file
from tests.refusals import one_sentence

SIDE = 32
SECRET = "/etc/hostname"


def mean_colour(
    *,
    opset: int = 18,
    inputs: str = "pixels",
    last: str = "Flatten",
    constants: list[bytes] | None = None,
    photos: str | int = "photos",
) -> bytes:
    """A model whose features are the average red, green and blue of the pixels, 0 to 1."""
    nodes = [
        onnx_file.node("Transpose", [inputs], "planes", {"perm": [0, 3, 1, 2]}),
        onnx_file.node("DequantizeLinear", ["planes", "scale"], "floats", {}),
        onnx_file.node("GlobalAveragePool", ["floats"], "average", {}),
        onnx_file.node(last, ["average"], "features", {}),
    ]
    scale = onnx_file.constant("scale", np.array(1 / 255, np.float32))
    return onnx_file.model(
        "mean_colour",
        nodes,
        [scale] if constants is None else constants,
        onnx_file.value_info("pixels", "uint8", [photos, SIDE, SIDE, 3]),
        onnx_file.value_info("features", "float32", [photos, 3]),
        opset=opset,
        ir_version=8,
    )


def manifest(**changes: object) -> Manifest:
    return Manifest.model_validate(
        {
            "architecture": "mean_colour",
            "target": "any",
            "engine": {"name": "onnxruntime"},
            "files": {},
            "features": 3,
            "weights": {"source": "none", "sha256": "", "license": "none"},
            "quantization": {"ranges": "data-free", "activations": "quint8", "small_pairs": True},
            "input": {"size": SIDE, "resize": SIDE, "border": [0, 0], "border_rgb": [0, 0, 0]},
            "golden": [{"index": 0, "confidence": 90}, {"index": 1, "confidence": 10}],
            **changes,
        }
    )


def load(model: bytes, threads: int = 2, **changes: object) -> Session:
    wanted = manifest(**changes)
    engine = engine_of(wanted)
    engine.check(wanted)
    return engine.load(wanted, {"trunk": model}, threads)


def refusal(model: bytes, **changes: object) -> str:
    return one_sentence(BundleError, lambda: load(model, **changes))


@pytest.fixture
def session() -> Session:
    return load(mean_colour())


def photo(session: Session, red: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    buffer = session.new_buffer()
    buffer[:] = red, 51, 255
    return buffer


def test_it_gives_the_features_of_each_photo_alone_and_together(session: Session) -> None:
    assert session.threads == 2
    photos = [photo(session, red) for red in (0, 102, 255)]
    assert photos[0].shape == (1, SIDE, SIDE, 3)
    answers = [session.infer(one) for one in photos]
    assert answers[1].dtype == np.float32
    assert answers[1] == pytest.approx([0.4, 0.2, 1.0], abs=1e-5)
    assert np.array_equal(session.infer_many(photos), np.stack(answers))
    photos[1][:] = 0
    session.infer(photos[1])
    assert answers[1] == pytest.approx([0.4, 0.2, 1.0], abs=1e-5)  # a later call does not change it


def test_a_model_for_one_photo_takes_several_one_by_one() -> None:
    session = load(mean_colour(photos=1))
    assert not session.takes_many
    photos = [photo(session, red) for red in (0, 255)]
    assert np.array_equal(session.infer_many(photos), np.stack([session.infer(one) for one in photos]))


def test_several_threads_may_infer_at_once(session: Session) -> None:
    def infer(red: int) -> float:
        return float(session.infer(photo(session, red))[0])

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(infer, range(256)))
    assert found == pytest.approx([red / 255 for red in range(256)], abs=1e-5)


def test_its_threads_sleep_between_two_frames(session: Session) -> None:
    session.infer(photo(session, 1))
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1


APART = """\
import os, sys
import numpy as np
from tests.vision.test_engine_onnxruntime import load, mean_colour, photo

session = load(mean_colour())
session.infer(photo(session, 1))
assert not {"torch", "onnx"} & sys.modules.keys()
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
"""


def test_it_imports_no_torch_prints_nothing_and_writes_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    ran = subprocess.run([sys.executable, "-c", APART], env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_a_log_on_a_full_disk_is_no_reason_not_to_load_a_model() -> None:
    with Path("/dev/full").open("wb") as full:
        assert subprocess.run([sys.executable, "-c", APART], stderr=full, check=False).returncode == 0


def test_importing_the_module_imports_no_library() -> None:
    script = "import sys, edge.vision.engines.onnxruntime; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def elsewhere(key: bytes) -> bytes:
    """The constant `scale`, which is said to be in another file; `key` is the word for it."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    entry = field(1, key) + field(2, SECRET.encode())
    return b"\x10\x01" + field(8, b"scale") + field(13, entry) + b"\x70\x01"  # float32, and stored outside


def test_a_model_that_names_another_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    assert "refers to another file, which is not read" in refusal(mean_colour(constants=[elsewhere(b"location")]))
    # Without this word ONNX Runtime finds no file either.
    assert "cannot load the bundle's model" in refusal(mean_colour(constants=[elsewhere(b"Location")]))
    (tmp_path / "trunk.onnx").write_bytes(mean_colour())
    assert load((tmp_path / "trunk.onnx").read_bytes()).threads == 2


def test_a_model_that_cannot_run_is_refused_in_a_sentence() -> None:
    assert "cannot load the bundle's model" in refusal(b"")
    assert "cannot load the bundle's model" in refusal(b"no model")
    assert "cannot load the bundle's model" in refusal(mean_colour()[:-40])
    assert "cannot load the bundle's model" in refusal(mean_colour(opset=4000))
    assert "cannot load the bundle's model" in refusal(mean_colour(last="ReadFile"))
    assert "cannot load the bundle's model" in refusal(mean_colour(inputs="other"))


def test_another_model_than_the_manifest_describes_is_refused() -> None:
    assert "gives float32 (1, 3) instead of float32 (1, 512)" in refusal(mean_colour(), features=512)
    other_side = {"size": SIDE + 1, "resize": 64, "border": [0, 0], "border_rgb": [0, 0, 0]}
    assert "cannot run the bundle's model" in refusal(mean_colour(), input=other_side)


def test_a_bundle_for_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = "arm64" if host_target() == "x86_64" else "x86_64"
    assert f"was made for {other}" in refusal(mean_colour(), target=other)
    full = {"ranges": "data-free", "activations": "quint8", "small_pairs": False}
    monkeypatch.setattr(onnxruntime, "host_target", lambda: "x86_64")
    monkeypatch.setattr(processor_check, "has_vnni", lambda: False)
    assert "was made for a CPU with VNNI" in refusal(mean_colour(), quantization=full)
    monkeypatch.setattr(onnxruntime, "host_target", lambda: "arm64")
    assert load(mean_colour(), quantization=full).threads == 2


def test_without_the_library_a_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "apt install python3-onnxruntime" in refusal(mean_colour())
    assert "pip install onnxruntime" in refusal(mean_colour())


def test_a_library_that_cannot_be_imported_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import_module = importlib.import_module

    def broken(name: str) -> Any:
        if name == "onnxruntime":
            raise RuntimeError("module compiled against ABI version 0x1000009")
        return import_module(name)

    monkeypatch.setattr(importlib, "import_module", broken)
    assert "cannot be imported (module compiled against ABI" in refusal(mean_colour())


def test_debians_build_is_refused_where_importing_it_would_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Pi 4 lists asimd but not asimdhp, and Debian's 1.21 for ARM64 has half precision in its constructors."""
    theirs = SimpleNamespace(origin="/usr/lib/python3/dist-packages/onnxruntime/__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: theirs)
    monkeypatch.setattr(onnxruntime, "cpu_flags", lambda: frozenset({"fp", "asimd", "aes", "crc32"}))
    assert "install PyPI's" in refusal(mean_colour())
    monkeypatch.setattr(onnxruntime, "cpu_flags", lambda: frozenset({"fp", "asimd", "asimdhp", "asimddp"}))  # Pi 5
    assert load(mean_colour()).threads == 2
