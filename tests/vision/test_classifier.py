"""Tests that the classifier answers on this machine as its bundle promises, or refuses with one sentence."""

import dataclasses
import io
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from edge.board.processor import InstructionSet, cpu_flags, host_target
from edge.errors import BundleError
from edge.events import top_k
from edge.photos.decode import read_photo
from edge.settings.schema import ModelSettings
from edge.vision.bundle import Bundle, load_bundle
from edge.vision.classifier import Classifier
from edge.vision.engines import cuda, torch_session
from edge.vision.engines.torch_kernels import host_kernels, needs_small_pairs, use_kernels
from edge.vision.head import Head, read_head
from edge.vision.torch_compat import known_deprecations, load_script, script_bytes, trace_script
from edge.workshop.export.judge.views import GOLDEN_PHOTO
from tests.daemon_process import environment
from tests.networks import NETWORKS, bundle_of
from tests.refusals import one_sentence
from tests.samples import LABELS
from tests.vision.signed import signed, small_bundle


@pytest.fixture(scope="module", params=NETWORKS)
def bundle_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of each network whose real weights are available."""
    return bundle_of(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def bundle(bundle_dir: Path) -> Bundle:
    return load_bundle(bundle_dir)


@pytest.fixture(scope="module")
def classifier(bundle: Bundle) -> Classifier:
    return Classifier(bundle, ModelSettings())


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores torch's number of threads, which belongs to the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def refusal(bundle: Bundle) -> str:
    message = one_sentence(BundleError, lambda: Classifier(bundle, ModelSettings()))
    assert "export" in message
    return message


def with_input(bundle: Bundle, **change: object) -> Bundle:
    """The bundle with another input contract, as if its manifest had it."""
    contract = bundle.manifest.input.model_copy(update=change)
    return dataclasses.replace(bundle, manifest=bundle.manifest.model_copy(update={"input": contract}))


@pytest.mark.parametrize("photo", LABELS)
def test_known_photos(classifier: Classifier, photos_dir: Path, photo: str) -> None:
    (file,) = photos_dir.glob(f"{photo}.*")
    prediction = classifier.predict(read_photo(file))
    top = top_k(prediction.probabilities, classifier.labels)
    assert top[0].label == LABELS[photo]
    assert top[0].confidence >= top[1].confidence >= top[2].confidence
    assert classifier.labels[top[0].index] == top[0].label
    assert prediction.probabilities.shape == (1000,)
    assert prediction.probabilities.dtype == np.float32
    assert prediction.probabilities.sum() == pytest.approx(1, abs=1e-4)
    assert set(prediction.latency_ms) == {"preprocess", "inference"}
    assert all(value > 0 for value in prediction.latency_ms.values())


def test_the_golden_photo_is_answered_as_promised(classifier: Classifier, bundle: Bundle) -> None:
    answer = classifier.predict(read_photo(GOLDEN_PHOTO)).probabilities
    for golden in bundle.manifest.golden:
        assert answer[golden.index] * 100 == pytest.approx(golden.confidence, abs=0.01)


def test_one_buffer_gives_one_answer_as_often_as_it_is_asked(classifier: Classifier) -> None:
    buffer, other = classifier.new_input(), classifier.new_input()
    photo = read_photo(GOLDEN_PHOTO)
    classifier.prepare(photo, buffer)
    classifier.prepare(photo[:, ::-1], other)
    first = classifier.infer(buffer)
    kept = first.copy()
    assert not np.array_equal(classifier.infer(other), kept)
    assert np.array_equal(classifier.infer(buffer), kept)
    assert np.array_equal(first, kept)  # a later inference does not change an earlier answer


def test_the_features_of_photos_are_what_the_head_takes(classifier: Classifier, bundle: Bundle) -> None:
    """So that a head for other classes can be fitted to them."""
    buffers = [classifier.new_input(), classifier.new_input(), classifier.new_input()]
    photo = read_photo(GOLDEN_PHOTO)
    for buffer, view in zip(buffers, (photo, photo[:, ::-1], photo[::-1]), strict=True):
        classifier.prepare(np.ascontiguousarray(view), buffer)
    features = classifier.features(buffers)
    assert (features.dtype, features.shape) == (np.float32, (3, bundle.manifest.features))
    head = read_head(bundle.files["head"], features.shape[1])
    assert head.probabilities(features) == pytest.approx(classifier.infer_all(buffers), abs=1e-6)
    kept = features.copy()
    classifier.features(buffers[:1])
    assert np.array_equal(features, kept)  # a later inference does not change them


def test_swapped_channels_give_another_answer(classifier: Classifier, photos_dir: Path) -> None:
    """Colours matter to the model: it is less sure of a photo with red and blue swapped."""
    for name in ("coffee.png", "rocket.jpg"):
        photo = read_photo(photos_dir / name)
        right = classifier.predict(photo).probabilities
        wrong = classifier.predict(np.ascontiguousarray(photo[..., ::-1])).probabilities
        assert wrong[right.argmax()] < right.max() - 0.05


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", [1, 2])
def test_threads_are_as_many_as_set(bundle: Bundle, count: int) -> None:
    Classifier(bundle, ModelSettings(threads=count))
    assert torch.get_num_threads() == count


def test_the_engine_is_set_before_the_model_is_loaded(bundle_dir: Path) -> None:
    """In a new process, in which torch's default engine would be used otherwise."""
    code = """
import json, sys
from pathlib import Path
import torch
from edge.settings.schema import ModelSettings
from edge.vision.bundle import load_bundle
from edge.vision.classifier import Classifier
wrong = next(e for e in torch.backends.quantized.supported_engines if e not in ("none", sys.argv[2]))
torch.backends.quantized.engine = wrong
seen, load = [], torch.jit.load
def noting(*arguments, **options):
    seen.append(torch.backends.quantized.engine)
    return load(*arguments, **options)
torch.jit.load = noting
Classifier(load_bundle(Path(sys.argv[1])), ModelSettings(threads=1))
print(json.dumps([wrong, *seen]))
"""
    engine = str(load_bundle(bundle_dir).manifest.engine.options["kernels"])
    done = subprocess.run(
        [sys.executable, "-c", code, bundle_dir, engine], env=environment(), capture_output=True, text=True, check=True
    )
    wrong, *seen = json.loads(done.stdout)
    assert wrong != engine
    assert seen == [engine]


def test_the_hashed_bytes_are_the_loaded_bytes(bundle_dir: Path, tmp_path: Path) -> None:
    """Replacing the file after the check has no effect."""
    home = signed(bundle_dir, tmp_path)
    bundle = load_bundle(home)
    (home / "trunk.ts").write_bytes(b"swapped")
    Classifier(bundle, ModelSettings(threads=1))


def test_a_wrong_answer_to_the_golden_photo_is_refused(bundle_dir: Path, tmp_path: Path) -> None:
    def other_class(document: dict[str, list[dict[str, float]]]) -> None:
        document["golden"][0]["index"] = (document["golden"][0]["index"] + 500) % 1000  # none of the three

    assert "answers its golden photo with" in refusal(load_bundle(signed(bundle_dir, tmp_path / "a", other_class)))

    def other_confidence(document: dict[str, list[dict[str, float]]]) -> None:
        document["golden"][0]["confidence"] -= 5

    message = refusal(load_bundle(signed(bundle_dir, tmp_path / "b", other_confidence)))
    assert "5.0 points off" in message
    photo = cv2.imencode(".jpg", np.ascontiguousarray(read_photo(GOLDEN_PHOTO)[::-1]))[1].tobytes()
    refusal(load_bundle(signed(bundle_dir, tmp_path / "c", golden=photo)))


def test_small_differences_between_machines_are_tolerated(bundle_dir: Path, tmp_path: Path) -> None:
    def a_little(document: dict[str, list[dict[str, float]]]) -> None:
        document["golden"][0]["confidence"] -= 2.5

    Classifier(load_bundle(signed(bundle_dir, tmp_path, a_little)), ModelSettings())


def test_what_cannot_run_is_refused(bundle: Bundle, bundle_dir: Path, tmp_path: Path) -> None:
    assert "cannot load" in refusal(load_bundle(signed(bundle_dir, tmp_path / "a", model=b"not TorchScript")))
    cut = bundle.files["trunk"][:-1000]
    assert "cannot load" in refusal(load_bundle(signed(bundle_dir, tmp_path / "b", model=cut)))
    assert "no sound golden photo" in refusal(load_bundle(signed(bundle_dir, tmp_path / "c", golden=b"text")))
    labels = "\n".join(bundle.labels[:999]).encode()
    assert "999 labels for 1000 classes" in refusal(load_bundle(signed(bundle_dir, tmp_path / "d", labels=labels)))
    refusal(with_input(bundle, size=32))


class Raising(torch.nn.Module):
    """TorchScript raises `torch.jit.Error`, which is no RuntimeError."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        raise ValueError("on purpose")


class Wordy(torch.nn.Module):
    def forward(self, pixels: torch.Tensor) -> str:
        return "cat"


class Double(torch.nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1, 1280, dtype=torch.float64)


class Narrow(torch.nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1, 7)


@pytest.mark.parametrize(
    ("trunk", "reason"),
    [(Raising, "on purpose"), (Wordy, "'str' object"), (Double, "float64"), (Narrow, "(7,)")],
)
def test_a_trunk_that_gives_something_else_is_refused(
    bundle: Bundle, trunk: type[torch.nn.Module], reason: str
) -> None:
    with known_deprecations():
        other = script_bytes(torch.jit.script(trunk()))
    assert reason in refusal(dataclasses.replace(bundle, files={**bundle.files, "trunk": other}))


class Whole(torch.nn.Module):
    """What `model.ts` of schema 1 holds: the trunk and the head."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        head = read_head(bundle.files["head"], bundle.manifest.features or 0)
        self.trunk = load_script(bundle.files["trunk"])
        self.weight, self.bias = torch.from_numpy(head.weight), torch.from_numpy(head.bias)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(self.trunk(pixels), self.weight, self.bias).softmax(1)


def test_a_bundle_of_schema_1_gives_the_answers_of_one_of_schema_2(
    classifier: Classifier, bundle: Bundle, tmp_path: Path
) -> None:
    buffer = classifier.new_input()
    classifier.prepare(read_photo(GOLDEN_PHOTO), buffer)
    model = script_bytes(trace_script(Whole(bundle), torch.from_numpy(buffer.pixels)))
    small = small_bundle(tmp_path, bundle.files["labels"])
    mine = json.loads((bundle.directory / "bundle.json").read_text())

    def of_bundle(document: dict[str, Any]) -> None:
        fields = ("architecture", "target", "weights", "quantization", "input", "golden", "agreement")
        document |= {field: mine[field] for field in fields} | {"engine": mine["engine"]["options"]["kernels"]}

    (tmp_path / "old").mkdir()
    old = load_bundle(signed(small, tmp_path / "old", of_bundle, model=model, golden=bundle.files["golden"]))
    assert old.manifest.features is None
    runs_old = Classifier(old, ModelSettings())
    assert runs_old.infer(buffer) == pytest.approx(classifier.infer(buffer), abs=1e-5)
    assert "no features" in one_sentence(BundleError, lambda: runs_old.features([buffer]))


def head_of(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def archive(weight: bytes, *, encrypted: bool = False) -> bytes:
    """A head whose weight is any bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        members.writestr("weight.npy", weight)
        for name, array in (("bias", ROW[:, 0]), ("temperature", np.float32(1))):
            members.writestr(f"{name}.npy", array_bytes(array))
    content = bytearray(file.getvalue())
    content[content.index(b"PK\x01\x02") + 8] |= encrypted
    return bytes(content)


def array_bytes(array: object) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def headed(header: str) -> bytes:
    """An array's file that has only a header."""
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode()


ROW = np.zeros((1000, 1280), np.float32)
FLOATS = "{'descr': '<f4', 'fortran_order': False, 'shape': "
HEADS = {
    "text": b"text",
    "another file": head_of(),
    "an object": head_of(weight=ROW, bias=np.array([None] * 1000), temperature=np.float32(1)),
    "no number": head_of(weight=ROW * np.nan, bias=ROW[:, 0], temperature=np.float32(1)),
    "doubles": head_of(weight=ROW.astype(np.float64), bias=ROW[:, 0], temperature=np.float32(1)),
    "other features": head_of(weight=ROW[:, 1:], bias=ROW[:, 0], temperature=np.float32(1)),
    "no temperature": head_of(weight=ROW, bias=ROW[:, 0], temperature=np.float32(0)),
    "no classes": head_of(weight=ROW[:0], bias=ROW[:0, 0], temperature=np.float32(1)),
    "bytes in place of an array": archive(b"bytes"),
    "a secret": archive(array_bytes(ROW), encrypted=True),
    "a header without an end": archive(headed("{'descr': ((((")),
    "more than any memory": archive(headed(FLOATS + "(1000000000000000, 1280)}")),
    "a size that is no number": archive(headed(FLOATS + "(True, 1280)}")),
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_a_head_that_is_none_is_refused_in_a_sentence(head: bytes) -> None:
    assert "head" in one_sentence(BundleError, lambda: read_head(head, 1280))


def test_a_head_is_softmax_of_the_last_layer_and_the_temperature_flattens_it() -> None:
    random = np.random.default_rng(0)
    weight, bias = random.standard_normal((5, 7), np.float32), random.standard_normal(5, np.float32)
    features = random.standard_normal((3, 7), np.float32)
    head = read_head(Head(weight, bias, 2.0).to_bytes(), 7)
    expected = torch.from_numpy((features @ weight.T + bias) / 2).softmax(1).numpy()
    assert head.probabilities(features) == pytest.approx(expected, abs=1e-6)
    assert (head.probabilities(features)[1] == head.probabilities(features[1])).all()
    assert head.probabilities(features * 1e30).sum(1) == pytest.approx(1)


def test_an_engine_that_this_version_does_not_have_is_refused(bundle: Bundle) -> None:
    engine = bundle.manifest.engine.model_copy(update={"name": "hailo"})
    other = dataclasses.replace(bundle, manifest=bundle.manifest.model_copy(update={"engine": engine}))
    assert "needs the engine hailo, which this version of edge-classifier does not have; upgrade it" in refusal(other)


def test_a_bundle_for_another_machine_is_refused(bundle: Bundle) -> None:
    other = "arm64" if host_target() == "x86_64" else "x86_64"
    foreign = dataclasses.replace(bundle, manifest=bundle.manifest.model_copy(update={"target": other}))
    assert f"was made for {other}" in refusal(foreign)


def test_a_gpu_infers_for_one_thread_at_a_time(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """`classify` infers in several threads, and TensorRT's execution context serves one at a time."""
    at_once: list[int] = []
    running = 0

    def load(model_bytes: bytes, place: str) -> Callable[[torch.Tensor], torch.Tensor]:
        model = load_script(model_bytes, place)

        def infer(pixels: torch.Tensor) -> torch.Tensor:
            nonlocal running
            running += 1
            at_once.append(running)
            time.sleep(0.01)  # another thread would begin meanwhile
            answer: torch.Tensor = model(pixels)
            running -= 1
            return answer

        return infer

    monkeypatch.setattr(torch_session, "load_script", load)
    monkeypatch.setattr(cuda, "open_gpu", lambda kernels: "cpu")
    use_kernels(str(bundle.manifest.engine.options["kernels"]))
    engine = bundle.manifest.engine.model_copy(update={"name": "cuda"})
    manifest = bundle.manifest.model_copy(update={"target": "jetson", "engine": engine})
    classifier = Classifier(dataclasses.replace(bundle, manifest=manifest), ModelSettings())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(classifier.infer, [classifier.new_input() for _ in range(8)]))
    assert at_once[-8:] == [1] * 8


def test_int8_on_cuda_is_refused_by_name(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"is INT8 for the CPU; set model\.device to auto or cpu, or make one for"):
        Classifier(bundle, ModelSettings(device="cuda"))


@pytest.mark.parametrize(
    ("target", "engines", "engine"),
    [
        ("x86_64", ["qnnpack", "onednn", "x86", "fbgemm"], "onednn"),  # PyPI's
        ("x86_64", ["qnnpack", "none", "onednn"], "onednn"),  # Debian's on amd64
        ("x86_64", ["qnnpack", "none"], "qnnpack"),
        ("arm64", ["qnnpack", "none", "onednn"], "qnnpack"),
        ("arm64", ["none", "onednn"], "install PyPI's 2.9.1"),  # Debian's on arm64
        ("x86_64", ["none"], "install PyPI's"),
    ],
)
def test_the_engine_is_one_that_this_torch_has(
    target: InstructionSet, engines: list[str], engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantized = SimpleNamespace(supported_engines=engines)
    built = SimpleNamespace(__version__="2.6.0", backends=SimpleNamespace(quantized=quantized))
    monkeypatch.setattr("edge.vision.engines.torch_kernels.torch", built)
    monkeypatch.setattr("edge.vision.engines.torch_kernels.host_target", lambda: target)
    if not engine.startswith("install"):
        assert host_kernels(target) == engine
        return
    with pytest.raises(BundleError, match=f"has no INT8 engine for {target} .*; {engine}"):
        host_kernels(target)
    with pytest.raises(
        BundleError, match=f"has no INT8 engine for {target} .*; {engine}"
    ):  # for a bundle made on another machine
        use_kernels("qnnpack")


def test_the_engine_follows_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, cpuinfo in (
        ("x86", "processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni\n\nflags\t\t: fpu\n"),
        ("arm", "processor\t: 0\nFeatures\t: fp asimd asimddp\n"),
    ):
        (tmp_path / name / "proc").mkdir(parents=True)
        (tmp_path / name / "proc/cpuinfo").write_text(cpuinfo)
    assert cpu_flags(tmp_path / "x86") == {"fpu", "avx2", "avx512_vnni"}
    assert cpu_flags(tmp_path / "arm") == {"fp", "asimd", "asimddp"}
    assert cpu_flags(tmp_path / "none") == frozenset()
    for flags, saturates in (({"avx2", "avx512_vnni"}, False), ({"avx2", "avx512f"}, True)):
        monkeypatch.setattr("edge.board.processor.cpu_flags", lambda flags=flags: frozenset(flags))
        assert needs_small_pairs("onednn") == needs_small_pairs("fbgemm") == saturates
        assert not needs_small_pairs("qnnpack")
    assert host_kernels("arm64") == "qnnpack"
    with pytest.raises(BundleError, match=r"made for the engine tensorrt, which this torch .* lacks; export it again"):
        use_kernels("tensorrt")
