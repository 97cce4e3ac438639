"""Tests the command line: help for 80 columns, one-sentence errors, and the exit codes."""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge.cli
import edge.settings.defaults
import edge.settings.toml_file
from edge import __version__
from edge.cli import COMMANDS, command_module, main
from edge.settings.defaults import default_device_name
from edge.settings.schema import Settings
from tests.conftest import may_be_anybody, somebody_else
from tests.daemon_process import environment, run_command


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_help_fits_a_terminal_and_ends_with_0(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("usage: edge-classifier")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_paragraphs_of_a_description_are_filled(command: str) -> None:
    """A first word of a line that still fits on the line before was left there when a sentence was shortened."""
    for paragraph in command_module(command).DESCRIPTION.split("\n\n"):
        lines = paragraph.splitlines()
        if any(line.startswith(" ") or "  " in line for line in lines):
            continue  # a table or an example
        for line, following in itertools.pairwise(lines):
            assert len(f"{line} {following.split()[0]}") > 72, line


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"edge-classifier {__version__}\n"


def test_config_check_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[camera]\nsource = "rtsp://me:secret@cam/1"\n')
    assert main(["config", "check", "--config", str(config)]) == 0
    assert capsys.readouterr().out == f"{config} is good.\n"
    assert main(["config", "show", "--config", str(config)]) == 0
    assert "rtsp://***@cam/1" in capsys.readouterr().out
    assert main(["config", "show", "--json", "--config", str(config)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["camera"]["source"] == "rtsp://***@cam/1"
    assert document["decision"]["hold_s"] == 0.5


def test_config_errors_are_sentences_with_exit_code_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[decision]\nhold = 1\nheartbeat_s = 0\n")
    assert main(["config", "check", "--config", str(config)]) == 78
    output = capsys.readouterr().err
    assert "has 2 errors" in output
    assert "decision.hold (line 2): is not a setting; did you mean hold_s?" in output
    assert main(["run", "--config", str(tmp_path / "none.toml")]) == 78


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed box: a config directory that only its group may enter, and a model for every user."""
    with tempfile.TemporaryDirectory() as place:  # pytest's own directories are for its user alone
        root = Path(place)
        root.chmod(0o755)
        (root / "etc").mkdir()
        (root / "etc" / "config.toml").write_text('[device]\nname = "porch"\n', encoding="utf-8")
        (root / "state" / "models" / "current").mkdir(parents=True)
        for module in (edge.settings.defaults, edge.settings.toml_file, edge.cli):
            monkeypatch.setattr(module, "DEFAULT_CONFIG", root / "etc" / "config.toml")
        monkeypatch.setattr(edge.settings.defaults, "SYSTEM_STATE", root / "state")
        monkeypatch.setenv("XDG_STATE_HOME", str(root / "nobody"))
        monkeypatch.delenv("STATE_DIRECTORY", raising=False)
        monkeypatch.setattr(sys, "prefix", sys.base_prefix)  # not a clone, which has its own state directory
        assert main(["config", "check"]) == 0, "everything is imported that only root may read"
        (root / "etc").chmod(0)
        yield root
        (root / "etc").chmod(0o755)


IS_ROOT_ALONE = os.geteuid() == 0 and not may_be_anybody()


@pytest.mark.skipif(IS_ROOT_ALONE, reason="root of a user namespace without others reads everything")
@pytest.mark.parametrize("command", ["run", "config check", "config show", "fallback show", "models list", "doctor"])
def test_a_user_who_may_not_read_the_config_learns_what_to_do(
    installed: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with somebody_else():
        assert main(command.split()) == 78
    assert "config.toml may not be read by this user; run with sudo or join the group" in capsys.readouterr().err


@pytest.mark.skipif(IS_ROOT_ALONE, reason="root of a user namespace without others reads everything")
@pytest.mark.parametrize("command", ["classify cat.jpg", "evaluate labels.csv", "bench", "export", "try"])
def test_who_may_not_read_the_config_may_use_the_model(
    installed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    given: list[Settings] = []
    name, *more = command.split()
    monkeypatch.setattr(command_module(name), "run", lambda arguments, settings: given.append(settings) or 0)
    with somebody_else():
        assert main(command.split()) == 0
        named = main([name, "--config", str(installed / "etc" / "config.toml"), *more])
    (settings,) = given
    assert settings.device.name == default_device_name()
    assert settings.model.bundle == installed / "state" / "models" / "current"
    assert named == 78, "a config that was named has to be readable"
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("etc/config.toml may not be read by this user; the built-in defaults are in effect.")
    assert "may not be read by this user; run with sudo" in second


def python(code: str) -> str:
    """The output of a new interpreter."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout


def test_the_command_starts_without_heavy_imports() -> None:
    heavy = "[m for m in ('torch', 'cv2', 'torchvision', 'fastapi') if m in sys.modules]"
    assert python(f"import sys, edge.cli; edge.cli.build_parser(); print({heavy})") == "[]\n"


def test_the_daemon_imports_torch_for_its_model_alone_and_torchvision_never() -> None:
    imported = "print([name for name in ('torch', 'torchvision') if name in sys.modules])"
    classifier = "import edge.vision.classifier, edge.vision.batch, edge.vision.engines.torchscript"
    loader = "import edge.vision.engines.torch_session"
    program = f"import sys, edge.daemon.service; {imported}; {classifier}; {imported}; {loader}; {imported}"
    assert python(program) == "[]\n[]\n['torch']\n"


def test_bundles_are_looked_after_without_torch() -> None:
    program = "import sys, edge.vision.installed, edge.workshop.add_bundle; print('torch' in sys.modules)"
    assert python(program) == "False\n"


def test_a_reader_that_stops_reading_is_no_traceback() -> None:
    shell = f"{sys.executable} -m edge config show | head -1"
    shown = subprocess.run(["sh", "-c", shell], env=environment(), capture_output=True, text=True, check=True)
    assert shown.stderr == ""


def test_an_unknown_command_is_exit_code_2() -> None:
    assert run_command("fly").returncode == 2
