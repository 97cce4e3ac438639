"""Tests `edge-classifier evaluate`: counts that can be checked by hand, as a table or one JSON object."""

import json
import os
from pathlib import Path

import pytest
import torch

from edge.cli import main
from edge.vision.batch import threads_for
from tests.samples import INDEXES

COUNT = 12


@pytest.fixture(scope="module")
def rows(variants: list[Path]) -> list[tuple[Path, int]]:
    """Some pictures of each photo, with their right class."""
    return [(picture, INDEXES[picture.stem.partition("-")[2]]) for picture in variants[:COUNT]]


def table_of(rows: list[tuple[Path | str, int | str]], folder: Path) -> Path:
    file = folder / "labels.csv"
    file.write_text("file,index\n" + "".join(f"{photo},{index}\n" for photo, index in rows))
    return file


def test_it_counts_what_classify_says(
    bundle_dir: Path, weights_file: Path, rows: list[tuple[Path, int]], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    photos = [str(photo) for photo, _ in rows]
    assert main(["classify", *photos, "--model", str(bundle_dir), "--json"]) == 0
    tops = [[label["index"] for label in json.loads(line)["top"]] for line in capsys.readouterr().out.splitlines()]
    right = sum(top[0] == index for top, (_, index) in zip(tops, rows, strict=True))
    table = table_of(list(rows), tmp_path)
    arguments = ["evaluate", str(table), "--model", str(bundle_dir), "--weights", str(weights_file)]
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == [
        "model", "photos", "top1", "top1_interval", "top5", "top5_interval", "fp32", "calibration", "confused",
    ]  # fmt: skip
    assert document["model"] == bundle_dir.name
    assert document["photos"] == COUNT
    assert document["top1"] == pytest.approx(100 * right / COUNT, abs=0.01)
    assert document["top1"] <= document["top5"] <= 100
    assert list(document["fp32"]) == [
        "top1", "top1_interval", "agreement", "agreement_interval", "confidence_difference",
    ]  # fmt: skip
    assert list(document["calibration"]) == ["error", "confidence", "bins"]
    assert sum(part["photos"] for part in document["calibration"]["bins"]) == COUNT
    assert list(document["calibration"]["bins"][0]) == ["from", "to", "photos", "confidence", "right"]
    assert sum(pair["photos"] for pair in document["confused"]) <= COUNT - right
    low, high = document["top1_interval"]
    assert low < document["top1"] < high
    assert document["fp32"]["agreement"] >= 75
    assert main([*arguments, "--plot", str(tmp_path / "reliability.svg")]) == 0
    output = capsys.readouterr().out
    assert f"top-1      {document['top1']:5.1f} %   {low:5.1f} to {high:.1f} %" in output
    assert f"agreement  {document['fp32']['agreement']:5.1f} %" in output
    assert "same first label as FP32" in output
    assert max(len(line) for line in output.splitlines()) <= 80
    assert "calibration error" in (tmp_path / "reliability.svg").read_text()


def test_many_photos_are_classified_several_at_once_and_held_against_their_own_class(
    bundle_dir: Path, variants: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [variants[number % len(variants)] for number in range(8 * len(os.sched_getaffinity(0)) + 3)]
    assert threads_for(len(photos)) == len(os.sched_getaffinity(0))
    assert main(["classify", *map(str, photos), "--model", str(bundle_dir), "--json"]) == 0
    tops = [json.loads(line)["top"][0]["index"] for line in capsys.readouterr().out.splitlines()]
    # The class that the bundle says is the right one, but for every third photo; in another order fewer would be right.
    rows = [
        (photo, (top + (number % 3 == 0)) % 1000) for number, (photo, top) in enumerate(zip(photos, tops, strict=True))
    ]
    assert main(["evaluate", str(table_of(list(rows), tmp_path)), "--model", str(bundle_dir), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    right = sum(number % 3 != 0 for number in range(len(rows)))
    assert (document["photos"], document["top1"]) == (len(rows), pytest.approx(100 * right / len(rows), abs=0.01))


def test_without_weights_fp32_is_not_mentioned(
    bundle_dir: Path, rows: list[tuple[Path, int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = table_of(list(rows[:2]), tmp_path)
    assert main(["evaluate", str(table), "--model", str(bundle_dir), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fp32"] is None
    assert main(["evaluate", str(table), "--model", str(bundle_dir)]) == 0
    output = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in output if line][:5] == ["model", "photos", "top-1", "top-5", "calibration"]
    assert "FP32" not in "".join(output)


def test_a_plot_that_cannot_be_drawn_is_refused_before_the_work(
    bundle_dir: Path, rows: list[tuple[Path, int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = table_of(list(rows[:1]), tmp_path)
    assert main(["evaluate", str(table), "--model", str(bundle_dir), "--plot", "diagram.gif"]) == 73
    result = capsys.readouterr()
    assert (result.out, "ends neither in .svg nor in .png" in result.err) == ("", True)


def test_files_are_relative_to_the_table(
    bundle_dir: Path, rows: list[tuple[Path, int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here.jpg").write_bytes(rows[0][0].read_bytes())
    table = table_of([("here.jpg", rows[0][1])], tmp_path)
    assert main(["evaluate", str(table), "--model", str(bundle_dir), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["photos"] == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "lacks the columns file and index"),
        (b"photo,class\na.jpg,1\n", "lacks the columns file and index"),
        (b"file,index\n", "names no photos"),
        (b"file,index\na.jpg,1000\n", "line 2: needs a file and a class index from 0 to 999"),
        (b"file,index\na.jpg,-1\n", "line 2"),
        (b"file,index\na.jpg,cat\n", "line 2"),
        (b"file,index\na.jpg\n", "line 2"),
        (b"file,index\n,5\n", "line 2"),
        (b"file,index\na.jpg," + b"1" * 5000 + b"\n", "line 2"),
        (b"\xff\xfe\x00", "cannot be read as CSV"),
        (b"file,index\nnone.jpg,5\n", "none.jpg cannot be read"),
    ],
)
def test_a_bad_table_is_one_sentence(
    bundle_dir: Path, tmp_path: Path, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.csv").write_bytes(content)
    assert main(["evaluate", str(tmp_path / "labels.csv"), "--model", str(bundle_dir)]) == 66
    result = capsys.readouterr()
    assert said in result.err
    assert (result.out, result.err.count("\n")) == ("", 1)


def test_weights_of_another_network_are_refused(
    bundle_dir: Path, rows: list[tuple[Path, int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    table = table_of(list(rows[:1]), tmp_path)
    arguments = ["evaluate", str(table), "--model", str(bundle_dir), "--weights", str(tmp_path / "other.pth")]
    assert main(arguments) == 65
    assert "which a efficientnet_lite0 does not have; name the right --architecture" in capsys.readouterr().err
