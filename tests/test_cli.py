"""The command line: help that reads well at 80 columns, one-sentence errors, and the right exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge import __version__
from edge.cli import COMMANDS, main
from tests.daemon import environment, run_command


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
    told = capsys.readouterr().err
    assert "has 2 errors" in told
    assert "decision.hold (line 2): is not a setting; did you mean hold_s?" in told
    assert main(["run", "--config", str(tmp_path / "none.toml")]) == 78


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout


def test_the_command_starts_without_heavy_imports() -> None:
    heavy = "[m for m in ('torch', 'cv2', 'torchvision', 'fastapi') if m in sys.modules]"
    assert python(f"import sys, edge.cli; edge.cli.build_parser(); print({heavy})") == "[]\n"


def test_the_daemon_imports_no_torchvision() -> None:
    assert python("import sys, edge.service; print('torchvision' in sys.modules)") == "False\n"


def test_a_reader_that_stops_reading_is_no_traceback() -> None:
    shell = f"{sys.executable} -m edge config show | head -1"
    shown = subprocess.run(["sh", "-c", shell], env=environment(), capture_output=True, text=True, check=True)
    assert shown.stderr == ""


def test_an_unknown_command_is_exit_code_2() -> None:
    assert run_command("fly").returncode == 2
