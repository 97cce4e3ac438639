"""Tests that every network can be exported with the one recipe, agrees with FP32, and runs in the daemon."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from edge.cli import main
from edge.errors import BundleError, WeightsError
from edge.events import Probabilities
from edge.photos.decode import read_photo
from edge.settings.schema import ModelSettings
from edge.vision.batch import BATCH
from edge.vision.bundle import load_bundle
from edge.vision.classifier import Classifier
from edge.vision.installed import Installed
from edge.vision.manifest import MANIFEST
from edge.workshop.export.exporter import Exported, buffer_of, export_bundle
from edge.workshop.export.judge.agreement import Model, verify_golden
from edge.workshop.export.judge.views import GOLDEN_PHOTO
from edge.workshop.export.network.architectures import ARCHITECTURES
from edge.workshop.export.network.batch_norm_folding import fold_batch_norms
from edge.workshop.export.weights.class_names import class_names
from edge.workshop.export.weights.state_dict import read_weights
from tests.broker import Brokers, Subscriber, eventually
from tests.conftest import Configure
from tests.daemon_process import run_command, running
from tests.networks import TESTDATA
from tests.refusals import one_sentence
from tests.workshop.export.trained_like import trained_like
from tests.workshop.export.usual import ONE_ENGINE

SEEN, JUDGED = 12, 20  # photos that the batch norms saw, and others that INT8 and FP32 are compared on

RANDOM = sorted(ARCHITECTURES.keys() - {"resnet18", "efficientnet_lite0"})  # those two are tested with real weights

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def photos(variants: list[Path]) -> list[Path]:
    """Hundreds of photos if the test data has them, otherwise variants of four."""
    return sorted((Path(TESTDATA) / "photos" / "labelled").glob("*.JPEG")) if TESTDATA else variants


@pytest.fixture(scope="module")
def export(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """Exports a network with random weights, once."""
    models = tmp_path_factory.mktemp("architectures")

    @cache
    def exported(name: str) -> Exported:
        judged = photos[SEEN : SEEN + JUDGED]  # by their logits: a random network is nearly tied everywhere
        return export_bundle(trained_like(name, photos[:SEEN]), models, photos=judged, min_agreement=0)

    return exported


@pytest.mark.parametrize("name", RANDOM)
def test_every_network_is_exported_agrees_with_itself_and_runs(
    name: str, photos: list[Path], export: Callable[[str], Exported], capsys: pytest.CaptureFixture[str]
) -> None:
    exported = export(name)
    agreement = exported.manifest.agreement
    assert agreement is not None
    assert agreement.correlation is not None
    size = exported.model_bytes
    with capsys.disabled():
        print(f"\n{name}, random weights: logits correlate by {agreement.correlation:.4f}; {size / 1e6:.1f} MB")
    assert agreement.photos == JUDGED
    assert agreement.correlation >= (0.98 if TESTDATA else 0.97)  # variants of four photos are few data for statistics
    bundle = load_bundle(exported.directory)
    assert bundle.name.startswith(f"{name}-int8-")
    assert bundle.manifest.weights.top1 is None  # random weights have no published accuracy
    assert "unproven" in exported.to_table()
    classifier = Classifier(bundle, ModelSettings(threads=torch.get_num_threads()))
    answer = classifier.predict(read_photo(GOLDEN_PHOTO)).probabilities
    assert answer.shape == (1000,)
    assert int(answer.argmax()) == bundle.manifest.golden[0].index
    if classifier.takes_many:  # `classify` of a folder infers a batch at once
        batch = [classifier.new_input() for _ in range(BATCH)]
        for buffer, photo in zip(batch, photos, strict=False):
            classifier.prepare(read_photo(photo), buffer)
        alone = np.stack([classifier.infer(buffer) for buffer in batch])
        together = classifier.infer_all(batch)
        # The last bit of a float may change an integer, which a random network amplifies. So each answer of the
        # batch has to be nearer to that of its photo alone than to that of any other photo.
        apart = np.abs(together[:, None] - alone[None]).sum(-1)
        np.testing.assert_array_equal(apart.argmin(1), np.arange(BATCH))


def test_the_daemon_runs_every_network_one_after_the_other(
    export: Callable[[str], Exported], configure: Configure, photo_video: Path, brokers: Brokers
) -> None:
    bundles = [export(name).directory for name in RANDOM]
    Installed(bundles[0].parent).switch(bundles[-1].name)
    broker = brokers.start()
    subscriber = brokers.subscribe(broker)
    config = configure(
        camera_source=f"file:{photo_video}",
        camera_loop=True,
        camera_fps=5,
        decision_every_frame=True,
        model_bundle=str(bundles[0].parent / "current"),
        mqtt_url=broker.url,
    )
    with running(config) as daemon:
        daemon.wait_ready()
        for bundle in bundles:
            used = run_command("models", "use", bundle.name, "--config", config)
            assert used.returncode == 0, used.stderr
            eventually(lambda name=bundle.name: name in heard(subscriber), f"an event of {bundle.name}", 60)
        daemon.stop()


def heard(subscriber: Subscriber) -> set[str]:
    """The models whose events have arrived."""
    return {message.json()["model"] for message in subscriber.on("event")}


def test_two_classes_of_the_users_are_named_and_counted(
    photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fine-tuned network as a user has it: a file from torch.save, and a file with two names."""
    weights = trained_like("mobilenet_v3_large", photos[:SEEN], classes=2)
    torch.save(weights.state, tmp_path / "mine.pth")
    (tmp_path / "labels.txt").write_text("Katze\r\nHund\r\n\r\n", encoding="utf-8")
    arguments = ["--weights", str(tmp_path / "mine.pth"), "--arch", "mobilenet_v3_large"]
    models = ["--output", str(tmp_path / "models")]
    assert main(["export", *arguments, *models]) == 65
    assert "have 2 classes; name them with --labels FILE" in capsys.readouterr().err
    assert main(["export", *arguments, *models, *ONE_ENGINE, "--labels", str(tmp_path / "labels.txt"), "--json"]) == 0
    directory = json.loads(capsys.readouterr().out)["bundle"]
    bundle = load_bundle(Path(directory))
    assert bundle.labels == ("Katze", "Hund")
    assert len(json.loads((bundle.directory / MANIFEST).read_text())["golden"]) == 2
    assert main(["classify", str(GOLDEN_PHOTO), "--model", directory, "--json"]) == 0
    top = json.loads(capsys.readouterr().out)["top"]
    assert {label["label"] for label in top} == {"Katze", "Hund"}
    assert sum(label["confidence"] for label in top) == pytest.approx(100, abs=0.2)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"one\ntwo\n", "has 2 names and these weights have 3 classes; it needs one line for each"),
        (b"one\ntwo\nthree\nfour\n", "has 4 names"),
        (b"", "line 1: needs a name"),
        (b"one\n\nthree\n", "line 2: needs a name"),
        (b"one\ntwo\x07\nthree\n", "line 2"),
        (b"one\ntwo\n" + b"x" * 201 + b"\n", "line 3"),
        (b"one\ntwo\n\xff\n", "is not UTF-8 text"),
    ],
)
def test_names_that_do_not_fit_are_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    assert said in one_sentence(WeightsError, lambda: class_names(3, tmp_path / "labels.txt"))


def test_names_that_are_not_there_and_a_network_with_one_class(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.txt cannot be read: No such file or directory"):
        class_names(3, tmp_path / "none.txt")
    with pytest.raises(WeightsError, match="have only one class"):
        class_names(1, None)
    (tmp_path / "labels.txt").write_text("\ufeffeins\nzwei\n", encoding="utf-8")  # as some editors save it
    assert class_names(2, tmp_path / "labels.txt") == ("eins", "zwei")
    assert class_names(1000, None)[0] == "tench"


def test_int8_that_does_not_follow_fp32_is_refused(weights_file: Path) -> None:
    network = fold_batch_norms(
        ARCHITECTURES["efficientnet_lite0"](), read_weights(weights_file, "efficientnet_lite0").state
    )
    example = buffer_of(read_photo(GOLDEN_PHOTO), network.architecture.contract)
    with torch.inference_mode():
        right = network(torch.from_numpy(example))[0].numpy()

    def answer(probabilities: Probabilities) -> Model:
        return lambda _: probabilities

    verify_golden(answer(right), network, example, "INT8")
    first = int(right.argmax())
    said = rf"\(FP32's first class {first} has \d+\.\d % there and class {first + 1} has \d+\.\d %\)"
    with pytest.raises(BundleError, match=rf"INT8 does not follow FP32 on the golden photo {said}"):
        verify_golden(answer(np.roll(right, 1)), network, example, "INT8")
    sure = np.full_like(right, 1e-6)
    sure[first] = 1.0
    with pytest.raises(BundleError, match=r"correlation is 0\.\d{3}, and 0\.9 is the least\); find the ranges on"):
        verify_golden(answer(sure), network, example, "INT8")
    with pytest.raises(BundleError, match=r"^FP16 does not follow FP32 .* is the least\); use other weights\.$"):
        verify_golden(answer(sure), network, example, "FP16")
