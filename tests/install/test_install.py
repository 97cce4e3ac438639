"""Tests that install.sh reports in one sentence what is missing, before it changes anything."""

import configparser
import contextlib
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from edge.settings.schema import Settings
from tests.installer import CHECKOUT, install

WEIGHTS = b"\x80\x02 as torch.save began before 1.6"
SHELL_SCRIPTS = sorted(
    str(file.relative_to(CHECKOUT))
    for file in (
        *(CHECKOUT / "install.sh", CHECKOUT / ".ci" / "run", CHECKOUT / "tests" / "boot" / "box"),
        *(CHECKOUT / "tests" / "device" / "lab", *(CHECKOUT / "scripts").iterdir()),
        *(CHECKOUT / "scripts" / "install").iterdir(),
    )
    if file.is_file() and file.suffix in ("", ".sh")
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """install.sh in a separate directory, so that this checkout's .venv is not touched."""
    shutil.copy(CHECKOUT / "install.sh", tmp_path)
    shutil.copytree(CHECKOUT / "scripts" / "install", tmp_path / "scripts" / "install")
    (tmp_path / "edge" / "workshop" / "export").mkdir(parents=True)
    shutil.copy(CHECKOUT / "edge" / "workshop" / "export" / "weights.json", tmp_path / "edge" / "workshop" / "export")
    return tmp_path


def test_help_lists_every_option(copy: Path) -> None:
    result = install(copy, "--help")
    assert result.returncode == 0
    parsed = set(re.findall(r"(?<!\w )--[a-z-]+(?=\)| \|)", (CHECKOUT / "scripts" / "install" / "service").read_text()))
    assert parsed | {"--try", "--dev", "--count"} <= set(result.stdout.replace(":", " ").split())
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_an_unknown_option_is_a_usage_error(copy: Path) -> None:
    result = install(copy, "--tyr")
    assert result.returncode == 64
    assert result.stderr == 'install.sh: "--tyr" is not an option; see ./install.sh --help.\n'


@pytest.mark.skipif(os.geteuid() == 0 and Path("/run/systemd/system").exists(), reason="it would install")
def test_the_system_install_says_what_it_needs(copy: Path) -> None:
    result = install(copy)
    assert result.returncode in (69, 77)
    assert "sudo ./install.sh" in result.stderr or "does not run systemd" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="not Debian")
def test_a_dry_run_prints_every_step_and_does_nothing(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    shutil.copytree(CHECKOUT / "edge", copy / "edge", dirs_exist_ok=True)
    before = sorted(copy.rglob("*"))
    password = tmp_path_factory.mktemp("given") / "password"
    password.write_text("secret")
    file = password.with_name("weights.pth")
    file.write_bytes(WEIGHTS)
    weights = ("--weights", file)  # so that no server is contacted
    result = install(
        copy,
        *("--dry-run", "--web", *weights),
        *("--broker", "mqtt://broker.example", "--user", "me", "--password-file", password),
    )
    assert result.returncode == 0, result.stderr
    machine, model, *steps = result.stdout.splitlines()
    assert "from PyPI" in machine or "from Debian" in machine
    assert model == f"The model: made from {file}"
    assert all(step.startswith("  would do: ") for step in steps)
    steps = [step.removeprefix("  would do: ") for step in steps]
    # The token exists before the config names it.
    order = ("The release", "The INT8 model", "A token", "The config", "The broker's password", "The service", "Start")
    assert [next(i for i, step in enumerate(steps) if step.startswith(word)) for word in order] == sorted(
        next(i for i, step in enumerate(steps) if step.startswith(word)) for word in order
    )
    assert sorted(copy.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--weights", "nowhere.pth"), 66, "There is no file {here}/nowhere.pth; --weights names FP32 weights."),
        (
            ("--source", "file:nowhere"),
            66,
            "There is no {here}/nowhere; --source file: takes a video, a photo or a folder of photos.",
        ),
        (("--weights", "empty"), 65, "{here}/empty is empty; name a file that torch.save wrote, with --weights FILE."),
        (
            ("--weights", "page"),
            65,
            "{here}/page is a web page, and not the file that it links to;"
            " name a file that torch.save wrote, with --weights FILE.",
        ),
        (
            ("--weights", "https://example.org/mine.pth"),
            64,
            "--weights takes a file; fetch it first, such as with: curl -LO https://example.org/mine.pth",
        ),
        (
            ("--rollback", "--uninstall"),
            64,
            "--download, --rollback and --uninstall exclude each other; give one of them.",
        ),
        (("--purge",), 64, "--purge goes with --uninstall."),
        (("--for", "trixie"), 64, "--for goes with --download DIR."),
        (("--user",), 64, "--user needs a value; see ./install.sh --help."),
        (("--password-file", "/etc/hostname"), 64, "A broker takes a password only with a user; add --user NAME."),
        (
            ("--user", "me", "--password-file", "empty"),
            66,
            "There is no password in {here}/empty; --password-file names a file with it.",
        ),
    ],
)
def test_an_impossible_option_is_refused_before_anything_is_done(
    copy: Path, options: tuple[str, ...], code: int, sentence: str
) -> None:
    (copy / "empty").touch()
    (copy / "page").write_text("<!doctype html>404")
    result = install(copy, "--dry-run", *options)
    assert (result.returncode, result.stdout) == (code, "")
    assert result.stderr == f"install.sh: {sentence.format(here=copy)}\n"


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="not Debian")
@pytest.mark.parametrize(
    ("option", "key", "values"),
    [
        ("--device", "device.name", ["porch", "Porch-2.a_b", "a" * 63, "a" * 64, "a/b", "a b", "+", "-a", "ü"]),
        (
            *("--broker", "mqtt.url"),
            [
                *(
                    "mqtt://broker",
                    "mqtt://10.0.0.2:1883",
                    "mqtts://broker.example:8883",
                    "mqtt://[::1]:1883",
                    "mqtt://b/",
                ),
                *("http://broker", "broker:1883", "mqtt://", "mqtt://b/topic", "mqtt://me:secret@b", "mqtt://b:port"),
            ],
        ),
        (
            *("--source", "camera.source"),
            [
                *("auto", "picamera2", "picamera2:1", "v4l2:0", "v4l2:/dev/v4l/by-id/x", "rtsp://cam/1", "csi://0"),
                *("usb:0", "/dev/video0", "0", "v4l2:", "picamera2:x", "http://cam/1", "csi:0"),
            ],
        ),
    ],
)
def test_what_the_settings_refuse_is_refused_before_anything_is_fetched(
    copy: Path, option: str, key: str, values: list[str]
) -> None:
    section, _, name = key.partition(".")
    accepted = {"by the settings": set(), "by the installer": set()}
    for value in values:
        with contextlib.suppress(ValidationError):
            Settings.model_validate({section: {name: value}})
            accepted["by the settings"].add(value)
        result = install(copy, "--dry-run", option, value, "--weights", "nowhere")  # the next option that is checked
        assert result.returncode in (64, 66), result.stderr
        if result.returncode == 66:
            accepted["by the installer"].add(value)
    assert accepted["by the installer"] == accepted["by the settings"]
    assert set() < accepted["by the settings"] < set(values)


@pytest.mark.skipif(Path("/opt/edge-classifier/current").exists(), reason="it is installed here")
def test_an_upgrade_of_nothing_is_one_sentence(copy: Path) -> None:
    result = install(copy, "--dry-run", "--upgrade")
    assert (result.returncode, result.stdout) == (69, "")
    assert result.stderr == "install.sh: There is nothing to upgrade yet; sudo ./install.sh installs it.\n"


@pytest.mark.parametrize("way", ["--try", "--dry-run"])
def test_a_python_out_of_range_is_one_sentence(copy: Path, way: str) -> None:
    old = copy / "python2"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 2.7.18\nexit 1\n')
    old.chmod(0o755)
    result = install(copy, way, PYTHON=str(old))
    assert (result.returncode, result.stdout) == (69, "")
    assert len(result.stderr.splitlines()) == 1
    assert "Python 3.10 to 3.13 is needed" in result.stderr
    assert "Python 2.7.18" in result.stderr
    assert not (copy / ".venv").exists()


def test_a_missing_venv_module_is_one_sentence_with_the_apt_line(copy: Path) -> None:
    # As on Debian without python3-venv, where ensurepip is missing.
    (copy / "ensurepip.py").write_text("raise ImportError")
    result = install(copy, "--try", PYTHONPATH=str(copy))
    assert result.returncode == 69
    assert len(result.stderr.splitlines()) == 1
    assert f"sudo apt-get install python3.{sys.version_info.minor}-venv" in result.stderr
    assert not (copy / ".venv").exists()


def test_a_step_that_fails_shows_its_error_and_ends_with_its_code(copy: Path) -> None:
    failing = copy / "python3"
    failing.write_text(
        f'#!/bin/sh\n[ "$2" = venv ] && {{ echo "no space left"; exit 28; }}\nexec {sys.executable} "$@"\n'
    )
    failing.chmod(0o755)
    result = install(copy, "--try", PYTHON=str(failing))
    assert result.returncode == 28
    assert "no space left" in result.stderr
    assert "install.log" in result.stderr


def test_debian_brings_everything_that_setup_cfg_asks_for() -> None:
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    lines = setup["options"]["install_requires"].splitlines()
    wanted = {re.split(r"[ ;<>=!]", line)[0].removesuffix("-python-headless") for line in lines if line.strip()}
    command = [str(CHECKOUT / "scripts" / "install" / "list-packages"), "trixie/x86_64", "--without-mqtt"]
    brought = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    named = {package.removeprefix("python3-") for package in brought} | {"tomli"}  # in Python itself since 3.11
    assert wanted <= named | {package.removeprefix("python-") for package in named}


STEP = """
log=$1; dry_run=no; . scripts/install/common.sh
works() { echo 'Downloading torch (104.1 MB)'; until [ -e "$log.seen" ]; do sleep 0.05; done; }
step "The release" works
"""


def test_at_a_terminal_a_step_shows_that_it_lives(tmp_path: Path) -> None:
    log = tmp_path / "log"
    terminal, end = pty.openpty()
    with subprocess.Popen(["bash", "-euc", STEP, "_", log], cwd=CHECKOUT, stdout=end, stderr=end) as ran:
        os.close(end)
        shown = ""
        with contextlib.suppress(OSError):  # EIO: the other end of the terminal is closed
            while chunk := os.read(terminal, 1000).decode():
                shown += chunk
                if "104.1 MB" in shown:  # while the step goes on
                    Path(f"{log}.seen").touch()
        os.close(terminal)
    assert ran.returncode == 0
    assert re.search(r"  The release: \d+ s  Downloading torch \(104.1 MB\)", shown)
    assert re.fullmatch(r"  The release +\d+ s", shown.split("\x1b[K")[-1].strip("\r\n"))


def test_in_a_log_a_step_is_one_plain_line(tmp_path: Path) -> None:
    (tmp_path / "log.seen").touch()
    command = ["bash", "-euc", STEP, "_", str(tmp_path / "log")]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"  The release +\d+ s\n", result.stdout)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say() -> None:
    result = subprocess.run(
        ["shellcheck", "--external-sources", *SHELL_SCRIPTS], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
