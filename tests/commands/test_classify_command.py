"""Tests `edge-classifier classify`: one line a photo, a stable JSON form, and no end at a bad photo."""

import csv
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge.cli import main
from edge.events import Prediction, Probabilities, top_k
from edge.photos.decode import read_photo
from edge.settings.schema import ModelSettings
from edge.vision.batch import BATCH, classify_photos
from edge.vision.bundle import load_bundle
from edge.vision.classifier import Classifier
from edge.vision.preprocess import InputBuffer
from tests.daemon_process import environment, run_command


@pytest.fixture(scope="module")
def photos(photos_dir: Path) -> list[Path]:
    """A cup of coffee from above, and a camera on its tripod."""
    return [photos_dir / "coffee.png", photos_dir / "camera.png"]


@pytest.fixture(scope="module")
def spoken(
    bundle_dir: Path, photos: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> subprocess.CompletedProcess[str]:
    """One real process: two photos, a bad one between them, and a name that is not UTF-8, as JSON."""
    odd = tmp_path_factory.mktemp("photos") / "caf\udce9.jpg"
    odd.write_bytes(photos[0].read_bytes())
    bad = odd.parent / "notes.txt"
    bad.write_text("no photo")
    return run_command("classify", photos[0], bad, photos[1], odd, "--model", bundle_dir, "--json")


def test_json_is_one_object_a_photo(
    spoken: subprocess.CompletedProcess[str], photos: list[Path], bundle_dir: Path
) -> None:
    lines = [json.loads(line) for line in spoken.stdout.splitlines()]
    assert [line["file"] for line in lines][:2] == [str(photo) for photo in photos]
    for line in lines:
        assert list(line) == ["file", "top", "model", "latency_ms"]
        assert line["model"] == bundle_dir.name
        assert list(line["latency_ms"]) == ["preprocess", "inference"]
        assert all(isinstance(value, float) and value > 0 for value in line["latency_ms"].values())
        assert len(line["top"]) == 3
        for label in line["top"]:
            assert list(label) == ["label", "confidence", "index"]
            assert isinstance(label["index"], int)
            assert 0 <= label["confidence"] <= 100
            assert label["confidence"] == round(label["confidence"], 1)
    assert [line["top"][0]["label"] for line in lines[:2]] == ["espresso", "tripod"]


def test_a_bad_photo_is_one_sentence_and_does_not_stop_the_others(spoken: subprocess.CompletedProcess[str]) -> None:
    assert spoken.returncode == 66
    (sentence,) = spoken.stderr.splitlines()
    assert sentence.startswith("edge-classifier: ")
    assert sentence.endswith("notes.txt is not a photo; give a JPEG, PNG, WebP, BMP or TIFF photo.")


def test_a_name_that_is_no_utf8_is_printed_too(spoken: subprocess.CompletedProcess[str]) -> None:
    *_, last = spoken.stdout.splitlines()
    assert json.loads(last)["file"].endswith("caf\udce9.jpg")


def test_without_json_it_is_a_line_for_people(
    bundle_dir: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", *map(str, photos), "--model", str(bundle_dir)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{photos[0]}: espresso ")
    assert second.startswith(f"{photos[1]}: tripod ")
    assert first.count(" %") == 3


def test_without_a_bundle_it_says_how_to_make_one(
    tmp_path: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", str(photos[0]), "--model", str(tmp_path / "none")]) == 65
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "edge-classifier export" in printed.err


def test_the_bundle_comes_from_the_configuration(
    bundle_dir: Path, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[model]\nbundle = "{bundle_dir}"\nthreads = 1\n')
    assert main(["classify", str(photos[0]), "--json", "--config", str(config)]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == bundle_dir.name


def test_no_photo_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["classify"])
    assert ended.value.code == 2
    assert "PHOTO" in capsys.readouterr().err


@pytest.fixture(scope="module")
def folder(variants: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 links to 60 photos of every size, named in another order than their contents, and 4 bad ones."""
    home = tmp_path_factory.mktemp("many")
    for number in range(300):
        (home / f"{number:04d}.jpg").symlink_to(variants[number * 7 % 60])
    (home / "0003a.jpg").write_bytes(variants[0].read_bytes()[:-500])
    (home / "0150a.jpg").write_text("no photo")
    (home / "0150b.png").write_bytes(b"")
    (home / "9999.jpg").symlink_to(home / "nowhere")
    (home / "notes.txt").write_text("is not looked at")
    return home


def test_a_folder_is_classified_in_order_and_bad_photos_are_reported_and_counted(
    folder: Path, bundle_dir: Path, tmp_path: Path
) -> None:
    written = tmp_path / "labels.csv"
    done = run_command("classify", folder, "--model", bundle_dir, "--csv", "--output", written)
    assert done.returncode == 66
    assert done.stdout == ""
    output = done.stderr.splitlines()
    assert [line.split()[1].rpartition("/")[2] for line in output[:-1]] == [
        "0003a.jpg",
        "0150a.jpg",
        "0150b.png",
        "9999.jpg",
    ]
    assert output[-1].startswith("304 photos in ")
    assert output[-1].endswith("a second; 4 could not be read")
    with written.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["file"]).name for row in rows] == [f"{number:04d}.jpg" for number in range(300)]

    classifier = Classifier(load_bundle(bundle_dir), ModelSettings(threads=1))
    for row in rows[:60]:
        top = top_k(classifier.predict(read_photo(Path(row["file"]))).probabilities, classifier.labels)
        assert [row["label"], row["label_2"], row["label_3"]] == [label.label for label in top]
        assert abs(float(row["confidence"]) - top[0].confidence) <= 0.1001
        assert (int(row["index_2"]), row["model"]) == (top[1].index, bundle_dir.name)
    for number in range(60, 300):
        assert rows[number]["label"] == rows[number % 60]["label"]


def test_a_folder_and_a_photo_as_json(folder: Path, photos: list[Path], bundle_dir: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for number in range(BATCH + 3):
        (few / f"{number}.JPG").symlink_to(folder / "0000.jpg")
    written = tmp_path / "labels.jsonl"
    config = tmp_path / "config.toml"
    config.write_text("[model]\nthreads = 1\n")
    asked = ["classify", str(few), str(photos[1]), "--model", str(bundle_dir), "--json"]
    assert main([*asked, "--output", str(written), "--config", str(config)]) == 0
    lines = [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()]
    assert [Path(line["file"]).name for line in lines] == [
        *sorted(f"{number}.JPG" for number in range(BATCH + 3)),
        photos[1].name,
    ]
    assert len({line["top"][0]["label"] for line in lines[:-1]}) == 1
    assert lines[-1]["top"][0]["label"] == "tripod"


@pytest.mark.parametrize("count", [0, 1, BATCH, BATCH + 1, 5 * BATCH])
@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_photos_is_found_by_any_number_of_threads(
    folder: Path, bundle_dir: Path, count: int, threads: int
) -> None:
    classifier = Classifier(load_bundle(bundle_dir), ModelSettings(threads=1))
    photos = sorted(folder.glob("*.jpg"))[:count]
    assert [photo for photo, _ in classify_photos(classifier, photos, threads)] == photos


def test_a_graph_for_one_photo_is_given_one_at_a_time(folder: Path, bundle_dir: Path) -> None:
    class One(Classifier):
        def infer_all(self, buffers: Sequence[InputBuffer]) -> Probabilities:
            assert len(buffers) == 1
            return super().infer_all(buffers)

    bundle = load_bundle(bundle_dir)
    photos = sorted(folder.glob("*.jpg"))[: 2 * BATCH]
    one, many = One(bundle, ModelSettings(threads=1)), Classifier(bundle, ModelSettings(threads=1))
    assert many.takes_many == (bundle.manifest.engine.options["kernels"] != "qnnpack")
    one.takes_many = False
    results = zip(classify_photos(one, photos, 1), classify_photos(many, photos, 1), strict=True)
    for (photo, single), (same, batched) in results:
        assert photo == same
        if isinstance(single, Prediction):
            assert isinstance(batched, Prediction)
            assert abs(single.probabilities - batched.probabilities).max() < 1e-3


def test_who_has_seen_enough_of_a_folder_stops_it(folder: Path, bundle_dir: Path) -> None:
    classifier = Classifier(load_bundle(bundle_dir), ModelSettings(threads=1))
    found = classify_photos(classifier, sorted(folder.glob("*.jpg")), 2)
    assert next(found)[0].name == "0000.jpg"
    found.close()


def test_an_empty_folder_and_a_place_that_cannot_be_written_are_sentences(
    tmp_path: Path, photos: list[Path], bundle_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", str(tmp_path), "--model", str(bundle_dir)]) == 66
    assert "holds no photos" in capsys.readouterr().err
    wrong = ["--output", str(tmp_path / "none" / "labels.csv")]
    assert main(["classify", str(photos[0]), "--model", str(bundle_dir), *wrong]) == 73
    assert "choose another place" in capsys.readouterr().err


@pytest.mark.parametrize("to_file", [True, False])
def test_a_terminal_has_a_bar_unless_the_lines_go_there_too(
    to_file: bool, photos: list[Path], bundle_dir: Path, tmp_path: Path
) -> None:
    asked = [photos[0], photos[1], "--model", bundle_dir, *(["--output", tmp_path / "labels.txt"] * to_file)]
    terminal, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    subprocess.run(
        [sys.executable, "-m", "edge", "classify", *map(str, asked)],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        timeout=120,
        check=True,
    )
    os.close(theirs)
    shown = os.read(terminal, 65536).decode()  # a few lines, which the terminal buffers
    os.close(terminal)
    assert ("photo/s" in shown or "s/photo" in shown) == to_file
    assert ("espresso" in shown) != to_file
