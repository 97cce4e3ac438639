"""The installer's step that writes the config changes what was given, and never leaves half a file."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.settings_file import load_settings
from tests.installer import CHECKOUT, program

Writer = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def write_config(tmp_path: Path) -> Writer:
    """The installer's step for a config that is there."""
    program(
        tmp_path / "venv" / "bin" / "edge-classifier",
        f'#!/bin/sh\nPYTHONPATH={CHECKOUT} exec {sys.executable} -m edge "$@"\n',
    )
    program(tmp_path / "venv" / "bin" / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    config = tmp_path / "config.toml"
    config.write_text('[camera]\nsource = "auto"\n# mine\n')
    config.chmod(0o640)

    def run(before: str = "") -> subprocess.CompletedProcess[str]:
        script = (
            f"name=edge-classifier release={tmp_path} config={config}\n"
            "keys=('camera.source=file:a.mp4' device.name=porch)\n"
            f". scripts/install-config.sh; make_config_directory() {{ :; }}; {before} write_config"
        )
        return subprocess.run(["bash", "-euc", script], cwd=CHECKOUT, capture_output=True, text=True, check=False)

    return run


def test_the_config_keeps_its_lines_its_owner_and_its_mode(tmp_path: Path, write_config: Writer) -> None:
    config = tmp_path / "config.toml"
    before = config.stat()
    assert write_config().returncode == 0
    assert config.read_text() == '[camera]\nsource = "file:a.mp4"\n# mine\n\n[device]\nname = "porch"\n'
    after = config.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert not (tmp_path / "config.toml.new").exists()


def test_a_config_that_cannot_be_written_whole_stays_as_it_was(tmp_path: Path, write_config: Writer) -> None:
    before = (tmp_path / "config.toml").read_text()
    told = write_config("ulimit -f 0;")  # as on a full disk
    assert "File too large" in told.stderr
    assert (tmp_path / "config.toml").read_text() == before


@pytest.mark.parametrize(
    "written",
    ['source="old"', "  source = 'old'   # by hand", '# source = "auto"\nsource="old"', 'source\t= "old"'],
)
def test_a_key_is_found_however_it_is_written(tmp_path: Path, write_config: Writer, written: str) -> None:
    (tmp_path / "config.toml").write_text(f"[ camera ] # the porch\n{written}\nfps=5\n")
    told = write_config()
    assert told.returncode == 0, told.stdout
    settings = load_settings(tmp_path / "config.toml", environment={})
    assert (settings.camera.source, settings.camera.fps, settings.device.name) == ("file:a.mp4", 5.0, "porch")


def test_a_config_that_would_be_refused_stays_as_it_was_and_what_was_refused_is_beside_it(
    tmp_path: Path, write_config: Writer
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('camera.source = "auto"\n')  # beside which a table [camera] is a second one
    told = write_config()
    assert told.returncode == 78
    assert config.read_text() == 'camera.source = "auto"\n'
    assert "[camera]" in (tmp_path / "config.toml.new").read_text()
    assert told.stdout.splitlines()[-1] == f"{config} stays as it was; what was refused is in {config}.new."
