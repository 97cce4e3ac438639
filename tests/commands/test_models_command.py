"""Tests `edge-classifier models` without a daemon: a bundle is verified before it is used."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.cli import main
from edge.vision.bundle import LABELS
from edge.vision.installed import Installed
from tests.vision.signed import signed

Command = Callable[..., int]


@pytest.fixture
def models(tmp_path: Path, bundle_dir: Path) -> Path:
    """An installed real bundle that is in use."""
    directory = tmp_path / "state" / "models"
    directory.mkdir(parents=True)
    shutil.copytree(bundle_dir, directory / bundle_dir.name)
    Installed(directory).switch(bundle_dir.name)
    return directory


@pytest.fixture
def command(models: Path, tmp_path: Path) -> Command:
    """Run `edge-classifier models …` without a daemon."""
    config = tmp_path / "config.toml"
    config.write_text(
        f'[model]\nbundle = "{models / "current"}"\nthreads = 1\n[fallback]\npath = "{tmp_path / "state" / "f.db"}"\n'
    )
    return lambda *arguments: main(["models", *map(str, arguments), "--config", str(config)])


def test_without_a_daemon_a_bundle_is_verified_before_it_is_used(
    command: Command, models: Path, bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong").mkdir()
    wrong = signed(bundle_dir, tmp_path / "wrong", lambda document: document["golden"][0].update(confidence=1.0))
    (tmp_path / "right").mkdir()
    right = signed(bundle_dir, tmp_path / "right", lambda document: document["weights"].update(source="elsewhere"))
    for source in (wrong, right):
        assert command("add", source) == 0
    capsys.readouterr()

    assert command("use", wrong.name) == 65
    assert "answers its golden photo" in capsys.readouterr().err
    assert command("rollback") == 65
    assert "There is no model before this one" in capsys.readouterr().err
    assert Installed(models).current == bundle_dir.name

    assert command("use", right.name, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"name": right.name, "daemon": False}
    assert command("list", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["bundles"]}
    assert [name for name, row in rows.items() if row["current"]] == [right.name]
    assert [name for name, row in rows.items() if row["previous"]] == [bundle_dir.name]
    assert rows[right.name]["weights"] == "elsewhere"
    assert command("rollback") == 0
    assert Installed(models).current == bundle_dir.name
    assert command("remove", wrong.name) == 0
    assert command("remove", bundle_dir.name) == 65
    capsys.readouterr()

    (models / right.name / LABELS).write_text("damaged")
    assert command("list") == 0
    listed = {line[2:].split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert listed[bundle_dir.name].startswith("* ")
    assert "torchscript" in listed[bundle_dir.name]
    assert listed["used"] == "* used from the next start (no daemon answers)   < before it"
    assert "truncated or changed" in listed[right.name]


def test_a_config_that_names_one_bundle_for_good_is_not_switched(
    bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[model]\nbundle = "{bundle_dir}"\n[fallback]\npath = "{tmp_path / "f.db"}"\n')
    assert main(["models", "use", bundle_dir.name, "--config", str(config)]) == 78
    assert "for good" in capsys.readouterr().err
