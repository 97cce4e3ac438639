"""Tests that the installer changes only the given settings in the config, and never leaves half a file."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.settings.schema import Settings
from edge.settings.toml_file import load_settings
from tests.camera.clips import set_durations, write_clip
from tests.installer import CHECKOUT, program

Writer = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def write_config(tmp_path: Path) -> Writer:
    """Run the installer's step on an existing config."""
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
            "source=; keys=('camera.source=file:a.mp4' device.name=porch camera.loop:=true)\n"
            f". scripts/install/config.sh; make_config_directory() {{ :; }}; {before} write_config"
        )
        return subprocess.run(["bash", "-euc", script], cwd=CHECKOUT, capture_output=True, text=True, check=False)

    return run


def test_the_config_keeps_its_lines_its_owner_and_its_mode(tmp_path: Path, write_config: Writer) -> None:
    config = tmp_path / "config.toml"
    before = config.stat()
    assert write_config().returncode == 0
    assert config.read_text() == '[camera]\nloop = true\nsource = "file:a.mp4"\n# mine\n\n[device]\nname = "porch"\n'
    after = config.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert not (tmp_path / "config.toml.new").exists()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_config_that_another_editor_saved_keeps_its_lines(
    tmp_path: Path, write_config: Writer, encoding: str
) -> None:
    config = tmp_path / "config.toml"
    config.write_bytes('[camera]\r\nsource = "auto"\r\n# Tür\r\n'.encode(encoding))
    result = write_config()
    assert result.returncode == 0, result.stdout + result.stderr
    assert config.read_text() == '[camera]\nloop = true\nsource = "file:a.mp4"\n# Tür\n\n[device]\nname = "porch"\n'
    config.write_bytes(b"[camera]\n# T\xfcr\n")
    result = write_config()
    assert result.returncode != 0
    assert f"{config} is not UTF-8 text (line 2, byte 12); save it as UTF-8." in result.stdout + result.stderr


def test_a_config_that_cannot_be_written_whole_stays_as_it_was(tmp_path: Path, write_config: Writer) -> None:
    before = (tmp_path / "config.toml").read_text()
    result = write_config("ulimit -f 0;")  # as on a full disk
    assert "File too large" in result.stderr
    assert (tmp_path / "config.toml").read_text() == before


@pytest.mark.parametrize(
    "written",
    ['source="old"', "  source = 'old'   # by hand", '# source = "auto"\nsource="old"', 'source\t= "old"'],
)
def test_a_key_is_found_however_it_is_written(tmp_path: Path, write_config: Writer, written: str) -> None:
    (tmp_path / "config.toml").write_text(f"[ camera ] # the porch\n{written}\nfps=5\n")
    result = write_config()
    assert result.returncode == 0, result.stdout
    settings = load_settings(tmp_path / "config.toml", environment={})
    assert settings.camera.loop
    assert (settings.camera.source, settings.camera.fps, settings.device.name) == ("file:a.mp4", 5.0, "porch")


def test_a_config_that_would_be_refused_stays_as_it_was_and_the_refused_one_is_kept_next_to_it(
    tmp_path: Path, write_config: Writer
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('camera.source = "auto"\n')  # with which a table [camera] would be a second one
    result = write_config()
    assert result.returncode == 78
    assert config.read_text() == 'camera.source = "auto"\n'
    assert "[camera]" in (tmp_path / "config.toml.new").read_text()
    assert result.stdout.splitlines()[-1] == f"{config} stays as it was; the refused one is {config}.new."


def check_source(source: str, config: Path = Path("/nowhere")) -> subprocess.CompletedProcess[str]:
    """Run the installer's check of --source, and print the settings that it adds."""
    script = f"""
        name=no-such-user source='{source}' host= config={config} keys=()
        . scripts/install/common.sh; . scripts/install/config.sh
        given_path() {{ case $1 in /*) echo "$1" ;; *) echo "{CHECKOUT}/$1" ;; esac; }}
        check_source; echo "${{keys[*]}}"
    """
    return subprocess.run(["bash", "-euc", script], cwd=CHECKOUT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("source", ["auto", "rtsp://camera.example/1", "v4l2:0"])
def test_a_camera_is_written_as_it_was_given(source: str) -> None:
    assert check_source(source).stdout == f"camera.source={source}\n"


def test_a_file_is_named_from_the_root_and_looped() -> None:
    from_here = os.path.relpath("/usr/lib/os-release", CHECKOUT)
    assert check_source("file:/usr/lib/os-release").stdout == (
        "camera.source=file:/usr/lib/os-release camera.loop:=true\n"
    )
    assert check_source(f"file:{from_here}").stdout.endswith("/usr/lib/os-release camera.loop:=true\n")


def test_a_camera_in_the_place_of_a_file_is_neither_looped_nor_slowed_down(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[camera]\nsource = "file:/srv/photos"\nloop = true\nfps = 1.0\n')
    output = check_source("v4l2:0", tmp_path / "config.toml").stdout
    assert output.startswith("camera.source=v4l2:0 camera.loop:=false camera.fps:=0.0 ")
    written = {key.rpartition(":=")[0]: float(key.rpartition("=")[2]) for key in output.split()[2:]}
    default = Settings()
    assert written == {
        "camera.fps": default.camera.fps,
        "decision.smoothing_s": default.decision.smoothing_s,
        "decision.hold_s": default.decision.hold_s,
    }


def test_photos_are_shown_one_a_second_and_each_speaks_for_itself(tmp_path: Path, write_config: Writer) -> None:
    shutil.copy(CHECKOUT / "edge" / "workshop" / "export" / "golden.jpg", tmp_path / "photo.jpg")
    result = write_config(f"source=file:{tmp_path}/photo.jpg;")
    assert result.returncode == 0, result.stderr
    settings = load_settings(tmp_path / "config.toml", environment={})
    assert (settings.camera.fps, settings.decision.smoothing_s, settings.decision.hold_s) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(("seconds", "fps"), [(0.1, 10.0), (0.04, 25.0), (0.001, 240.0), (500.0, 0.01)])
def test_a_video_runs_at_the_rate_of_its_timestamps(
    seconds: float, fps: float, tmp_path: Path, write_config: Writer
) -> None:
    video = set_durations(write_clip(tmp_path / "clip.mp4", 30), [(30, seconds)])
    result = write_config(f"source=file:{video};")
    assert result.returncode == 0, result.stderr
    assert load_settings(tmp_path / "config.toml", environment={}).camera.fps == pytest.approx(fps, rel=0.001)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            "/usr/lib/python3",
            "holds no photos (JPEG, PNG, WebP, BMP or TIFF); --source file: looks at those in the folder itself.",
        ),
        ("/dev/null", "is no file; --source file: takes a video, a photo or a folder of photos."),
    ],
)
def test_a_source_without_pictures_is_refused_before_anything_is_done(source: str, sentence: str) -> None:
    result = check_source(f"file:{source}")
    assert (result.returncode, result.stdout) == (66, "")
    assert result.stderr == f"install.sh: {source} {sentence}\n"


def test_a_folder_that_the_sandbox_hides_is_refused_with_what_to_do(tmp_path: Path) -> None:
    result = check_source(f"file:{tmp_path}")  # below /tmp
    assert (result.returncode, result.stdout) == (66, "")
    assert "The service's sandbox hides /home, /root, /run/user and /tmp" in result.stderr
    assert f"sudo ./install.sh --source 'file:/srv/{tmp_path.name}'" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try what another user may read")
def test_a_photo_that_the_services_user_may_not_read_is_named() -> None:
    with tempfile.TemporaryDirectory(dir="/var/lib") as place:
        Path(place).chmod(0o755)
        (Path(place) / "a.jpg").touch(0o644)
        assert check_source(f"file:{place}").returncode == 0
        (Path(place) / "b.jpg").touch(0o600)
        result = check_source(f"file:{place}")
        assert result.returncode == 66
        assert f"The service's user cannot read {place}/b.jpg; let everyone read it" in result.stderr
