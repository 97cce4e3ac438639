"""`edge-classifier classify`: one line a photo, a stable JSON form, and a bad photo never stops the others."""

import json
import subprocess
from pathlib import Path

import pytest

from edge.cli import main
from tests.daemon import run_command


@pytest.fixture(scope="module")
def photos(testdata: Path) -> list[Path]:
    """A goldfinch and a school bus."""
    folder = testdata / "photos" / "calibration"
    return [next(folder.glob(f"*_{name}.*")) for name in ("goldfinch", "school_bus")]


@pytest.fixture(scope="module")
def spoken(
    bundle_dir: Path, photos: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> subprocess.CompletedProcess[str]:
    """One real process: two photos, a bad one between them, a name that is no UTF-8, as JSON."""
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
    assert [line["top"][0]["label"] for line in lines[:2]] == ["goldfinch", "school bus"]


def test_a_bad_photo_is_one_sentence_and_does_not_stop_the_others(spoken: subprocess.CompletedProcess[str]) -> None:
    assert spoken.returncode == 66
    (sentence,) = spoken.stderr.splitlines()
    assert sentence.startswith("edge-classifier: ")
    assert sentence.endswith("notes.txt is not a photo; give a JPEG, PNG, WebP, BMP or TIFF photo.")


def test_a_name_that_is_no_utf8_is_told_all_the_same(spoken: subprocess.CompletedProcess[str]) -> None:
    *_, last = spoken.stdout.splitlines()
    assert json.loads(last)["file"].endswith("caf\udce9.jpg")


def test_without_json_it_is_a_line_for_people(
    bundle_dir: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", *map(str, photos), "--model", str(bundle_dir)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{photos[0]}: goldfinch ")
    assert second.startswith(f"{photos[1]}: school bus ")
    assert first.count(" %") == 3


def test_without_a_bundle_it_says_how_to_make_one(
    tmp_path: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", str(photos[0]), "--model", str(tmp_path / "none")]) == 65
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "edge-classifier export" in told.err


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
