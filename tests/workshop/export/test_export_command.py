"""Tests `edge-classifier export`: progress on stderr, a table with the bundle's path last, or one JSON object."""

import inspect
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edge.board.processor import host_target
from edge.cli import build_parser, main
from edge.commands import export
from edge.vision.bundle import load_bundle
from edge.vision.installed import Installed
from edge.workshop.export.exporter import export_bundle
from edge.workshop.export.judge.limits import MIN_AGREEMENT
from tests.daemon_process import CHECKOUT, environment, run_command
from tests.workshop.export.usual import ONE_ENGINE

host = host_target()


@pytest.fixture(scope="module")
def done(
    weights_file: Path, variants: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """One real process that exports and compares on a few photos, and its directory of bundles."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "photos").mkdir()
    for photo in variants[:5]:
        (folder / "photos" / photo.name).symlink_to(photo)
    arguments = ("--weights", weights_file, "--output", folder / "models", "--photos", folder / "photos", *ONE_ENGINE)
    return run_command("export", *arguments), folder / "models"


def test_it_shows_progress_a_table_and_the_path_last(done: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    process, models = done
    assert process.returncode == 0, process.stderr
    steps = process.stderr.splitlines()
    assert steps[0] == "weights: efficientnet_lite0 from efficientnet-lite0-57934424.pth (Apache-2.0)"
    assert [step.partition(" (")[0] for step in steps[1:]] == [
        "folding batch norms and normalisation into the convolutions",
        "finding the ranges of the activations",
        "quantizing to INT8",
        f"timing {ONE_ENGINE[1]}",
        "comparing INT8 with FP32",
        "writing the bundle",
        "loading the bundle in a separate process",
    ]
    assert "int8 for the engine" in steps[3]
    *table, path = process.stdout.splitlines()
    assert [line[:12].strip() for line in table] == [
        "", "size", "latency", "top-1 agreem", "… or a near", "correlation", "confidence d", "accuracy",
    ]  # fmt: skip
    assert "INT8" in table[0]
    assert "FP32" in table[0]
    assert " MB" in table[1]
    assert "× faster" in table[2]
    assert "on 5 photos and 48 views of shipped photos, because fewer than 20 say little" in table[3]
    assert "75.1" in table[7]
    bundle = load_bundle(Path(path))
    assert Path(path).parent == models
    assert bundle.manifest.agreement is not None
    assert (models / "current").resolve() == Path(path)
    assert sorted(entry.name for entry in models.iterdir()) == ["current", bundle.name]  # nothing else stays
    assert Path(path).stat().st_mode & 0o777 == 0o755
    assert all(file.stat().st_mode & 0o777 == 0o644 for file in Path(path).iterdir())


def test_json_is_one_object_and_the_previous_bundle_stays(
    done: tuple[subprocess.CompletedProcess[str], Path], weights_file: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    _, models = done
    monkeypatch.setenv("STATE_DIRECTORY", str(models.parent))
    previous = (models / "current").resolve()
    assert main(["export", "--weights", str(weights_file), "--output", str(models), *ONE_ENGINE, "--json"]) == 0
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    document = json.loads(output)
    assert list(document) == [
        "bundle", "target", "engine", "ranges", "size_bytes", "latency_ms", "threads", "published_top1", "instead_of",
        "agreement", "measured",
        "previous", "current", "unused_because",
    ]  # fmt: skip
    name = Path(document["bundle"]).name
    # Measured without photos this time, so its manifest and its name differ.
    assert document["previous"] == str(previous)
    assert document["bundle"] != str(previous)
    assert (document["current"], document["unused_because"]) == (True, "")
    assert document["published_top1"] == 75.1
    (row,) = document["measured"]["candidates"]
    assert document["engine"]["options"] == row["options"] == {"kernels": ONE_ENGINE[1]}
    assert (row["agrees"], row["reason"], row["ms"]) == (True, "", document["measured"]["ms"])
    # Without the user's photos it was measured on the shipped ones.
    assert (document["agreement"]["on"], document["agreement"]["photos"]) == ("shipped", 48)
    assert document["agreement"]["top1_or_tie"] >= 95
    assert main(["models", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["bundles"]}
    assert [(rows[bundle]["agreement_on"], rows[bundle]["agreement_photos"]) for bundle in (previous.name, name)] == [
        ("both", 53),
        ("shipped", 48),
    ]
    assert document["size_bytes"]["int8"] < document["size_bytes"]["fp32"] / 2
    assert (models / "current").resolve() == Path(document["bundle"])
    load_bundle(previous)


def test_a_bundle_for_another_instruction_set_is_written_and_not_used(
    weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It can be made here, because only the machine's name is changed: the kernels are this machine's."""
    monkeypatch.setattr("platform.machine", lambda: "aarch64" if host == "x86_64" else "x86_64")
    given = ["export", "--weights", str(weights_file), "--output", str(tmp_path / "models"), "--target", host]
    assert main([*given, "--json"]) == 0
    result = capsys.readouterr()
    document = json.loads(result.out)
    assert "separate process" not in result.err
    assert (document["current"], document["previous"]) == (False, None)
    assert "was not tried and current names none yet" in document["unused_because"]
    assert "edge-classifier models add" in document["unused_because"]
    assert Installed(tmp_path / "models").names() == [Path(document["bundle"]).name]

    (tmp_path / "models" / "current").symlink_to(Path(document["bundle"]).name)
    assert main([*given, "--golden", str(CHECKOUT / "edge" / "workshop" / "export" / "golden.jpg")]) == 0
    *_, said, path = capsys.readouterr().out.splitlines()
    assert said.startswith(f"{Path(path).name} is for {host} and this machine is ")
    assert f"current stays {Path(document['bundle']).name}; " in said


def test_a_bundle_that_this_machine_cannot_run_is_not_installed(
    done: tuple[subprocess.CompletedProcess[str], Path], weights_file: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The config requires a GPU; the process that loads the bundle reports that there is none."""
    _, models = done
    before = sorted(os.listdir(models)), (models / "current").resolve()  # noqa: PTH208
    config = tmp_path / "config.toml"
    config.write_text('[model]\ndevice = "cuda"\n')
    given = ["export", "--weights", str(weights_file), "--output", str(models), "--config", str(config), *ONE_ENGINE]
    assert main(given) == 65
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "set model.device to auto or cpu" in printed.err.splitlines()[-1]
    assert (sorted(os.listdir(models)), (models / "current").resolve()) == before  # noqa: PTH208


def test_whatever_the_umask_is_a_bundle_is_written_by_its_owner_alone(weights_file: Path, tmp_path: Path) -> None:
    """A developer's umask is often 002, which makes files writable for a group."""
    models = tmp_path / "state" / "models"
    command = [sys.executable, "-m", "edge", "export", "--weights", weights_file, "--output", models, *ONE_ENGINE]
    shown = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=120, check=False, umask=0o002
    )
    assert shown.returncode == 0, shown.stderr
    assert load_bundle(models / "current").name == Path(shown.stdout.splitlines()[-1]).name
    models.chmod(0o775)
    shown = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert shown.returncode == 65
    assert shown.stderr == (
        f"edge-classifier: More than its owner may write to {models}, and a model is code; run `chmod go-w {models}`.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--weights", "none.pth"], 65, "none.pth cannot be read: No such file or directory"),
        (["--weights", "text.pth"], 65, "does not hold PyTorch weights"),
        (["--weights", "other.pth"], 65, "are not a resnet18; name the right --architecture"),
        (["--weights", "other.pth", "--architecture", "vgg"], 65, "no architecture vgg"),
        (["--calibrate", "none"], 66, "none cannot be read: No such file or directory"),
        (["--photos", "empty"], 66, "empty holds no photos"),
        (["--photos", "pipes"], 66, "pipes holds no photos"),  # reading one would never end
        (["--calibrate", "black"], 65, "find the ranges on photos with --calibrate DIR"),  # not another golden photo
        (["--golden", "text.pth"], 66, "is not a photo"),
        (["--output", "text.pth/models"], 73, "text.pth is no directory; name another place for the models."),
        (["--output", "/dev/null"], 73, "/dev/null is no directory"),  # and no advice to change its mode
    ],
)
def test_mistakes_are_one_sentence_with_their_code(
    weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], code: int, said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.pth").write_text("no weights")
    for folder in ("empty", "pipes", "black"):
        (tmp_path / folder).mkdir()
    os.mkfifo(tmp_path / "pipes" / "photo.jpg")
    cv2.imwrite(str(tmp_path / "black" / "photo.png"), np.zeros((64, 64, 3), np.uint8))
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    given = ["export", "--weights", str(weights_file), "--output", "models", *ONE_ENGINE, *arguments]
    assert main(given) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    last = printed.err.splitlines()[-1]
    assert last.startswith("edge-classifier: ")
    assert said in last
    assert not list(tmp_path.glob("models/*"))


@pytest.mark.parametrize("text", ["95%", "", "0.95", "1", "nan", "101", "-1"])
def test_a_least_agreement_that_is_no_percent_is_refused_in_a_sentence(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """0.95 is meant as a fraction; taken as percent it would refuse nothing."""
    with pytest.raises(SystemExit):
        main(["export", f"--min-agreement={text}"])
    output = capsys.readouterr().err
    assert "must be percent, a number over 1 and up to 100 such as 95, or 0" in output
    assert "_percent" not in output


def test_a_full_disk_is_one_sentence_and_leaves_nothing(weights_file: Path, tmp_path: Path) -> None:
    """A limit on the size of files makes writes fail as on a full disk."""
    limited = subprocess.run(
        [
            sys.executable,
            "-m",
            "edge",
            "export",
            "--weights",
            weights_file,
            "--output",
            tmp_path / "models",
            *ONE_ENGINE,
        ],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )
    last = limited.stderr.splitlines()[-1]
    assert limited.returncode == 73, limited.stderr
    assert last.startswith("edge-classifier: ")
    assert "cannot be written" in last
    assert "Traceback" not in limited.stderr
    assert os.listdir(tmp_path / "models") == []  # noqa: PTH208


def test_the_gates_are_written_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The default of the option, the text of its help, and the default of the exporter agree."""
    assert build_parser().parse_args(["export"]).min_agreement == MIN_AGREEMENT
    assert inspect.signature(export_bundle).parameters["min_agreement"].default == MIN_AGREEMENT
    monkeypatch.setattr(export, "MIN_CORRELATION", 0.123)
    monkeypatch.setattr(export, "MIN_AGREEMENT", 45.6)
    with pytest.raises(SystemExit):
        build_parser().parse_args(["export", "--help"])
    output = " ".join(capsys.readouterr().out.split())
    assert "(default: 45.6; 0: no limit on agreement). The logits have to correlate by 0.123 in any case" in output
