"""Tests that commands do what was meant whatever their terminal, their shell and their user's account are like."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge import cli
from edge.commands import config, standard_streams
from edge.commands.standard_streams import PLAIN

UNKNOWN = 12345  # a user id without an account, as of `docker run --user`


def run(
    command: str, *, shell: str = '"$@"', prefix: tuple[str, ...] = (), **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell, whose script gets it as its arguments, with variables changed or (None) unset."""
    changed = os.environ | environment
    return subprocess.run(
        ["bash", "-c", shell, "_", *prefix, sys.executable, "-m", "edge", *command.split()],
        env={name: value for name, value in changed.items() if value is not None},
        capture_output=True,
        encoding="latin-1",
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("command", ["fallback show", "classify --help", "doctor --help"])
def test_a_terminal_without_unicode_gets_plain_characters(tmp_path: Path, encoding: str, command: str) -> None:
    done = run(command, PYTHONIOENCODING=encoding, STATE_DIRECTORY=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u" not in done.stdout
    assert set(done.stdout) < set(map(chr, range(128))) | set("×°·µ±²")


def test_every_character_that_is_printed_has_a_plain_one() -> None:
    code = "".join(file.read_text(encoding="utf-8") for file in Path(__file__).parents[2].glob("edge/**/*.py"))
    assert {character for character in code if not character.isascii()} <= PLAIN.keys()


def test_a_name_that_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    done = run(f"config check --config {tmp_path}/tür-门.toml", PYTHONIOENCODING="ascii")
    assert done.returncode == 78
    assert f"There is no config file {tmp_path}/t\\xfcr-\\u95e8.toml; name another with --config." in done.stderr


@pytest.mark.parametrize("command", ["config show", "fallback show", "--help"])
@pytest.mark.parametrize("buffering", ["", "1"])
def test_output_that_cannot_be_written_is_one_sentence(tmp_path: Path, command: str, buffering: str) -> None:
    done = run(command, shell='"$@" >/dev/full', PYTHONUNBUFFERED=buffering, STATE_DIRECTORY=str(tmp_path))
    assert done.returncode == 74
    assert done.stderr == (
        "edge-classifier: The output cannot be written (No space left on device); send it elsewhere, or make room.\n"
    )


@pytest.mark.parametrize(
    ("shell", "command", "code"),
    [
        ('"$@" >&-', "config show", 0),
        ('"$@" >&- 2>&- <&-', "models list", 0),
        ('"$@" 2>&-', "config check --config /nothing", 78),
        ('"$@" 2>/dev/full', "config check --config /nothing", 78),
        ('"$@" 2>/dev/full', "nonsense", 2),
        ('"$@" <&-', "config check", 0),
        ('ulimit -n 20; "$@"', "config check", 0),
        ('d=$(mktemp -d); cd "$d"; rmdir "$d"; "$@"', "config check", 0),
        ('trap "" PIPE; "$@" | true; exit ${PIPESTATUS[0]}', "--help", 141),
        ('"$@" | true; exit ${PIPESTATUS[0]}', "config show", 141),
    ],
)
def test_a_stream_that_is_closed_or_full_changes_nothing_else(
    tmp_path: Path, shell: str, command: str, code: int
) -> None:
    done = run(command, shell=shell, STATE_DIRECTORY=str(tmp_path), PYTHONPATH=str(Path(__file__).parents[2]))
    assert "Traceback" not in done.stderr
    assert "ignored" not in done.stderr
    assert done.returncode == code


def test_a_package_that_cannot_be_imported_is_one_sentence(tmp_path: Path) -> None:
    """As torch where `ulimit -v` is too low, or numpy where a library of the system is missing."""
    (tmp_path / "numpy.py").write_text("raise ImportError('libtorch_cpu.so: failed to map segment')")
    done = run("classify photo.jpg", PYTHONPATH=f"{tmp_path}:{Path(__file__).parents[2]}")
    assert done.returncode == 1
    assert done.stderr.startswith("edge-classifier: A package that this command needs cannot be imported (libtorch_cpu")
    assert len(done.stderr.splitlines()) == 1


def test_a_library_works_in_a_directory_that_was_deleted(tmp_path: Path) -> None:
    """MKL ends the process there, with a sentence about a library that cannot be loaded."""
    (tmp_path / "numpy.py").write_text("import os; raise ImportError(os.getcwd())")
    path = f"{tmp_path}:{Path(__file__).parents[2]}"
    done = run("classify photo.jpg", shell='d=$(mktemp -d); cd "$d"; rmdir "$d"; "$@"', PYTHONPATH=path)
    assert done.stderr.startswith("edge-classifier: A package that this command needs cannot be imported (/);")


def start_what_may_not_be_started(directory: Path) -> None:
    (directory / "python").touch(0o644)
    subprocess.run([directory / "python"], check=False)


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda _: Path("/dev/full").write_text("x"), "(No space left on device); make room."),
        (start_what_may_not_be_started, "/python: Permission denied); run as a user who has this right."),
    ],
)
def test_what_the_machine_or_the_user_lacks_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    act: Callable[[Path], object],
    sentence: str,
) -> None:
    """As the disk that is full since `try` has begun, or a Python that its user may not start."""
    monkeypatch.setattr(config, "run", lambda *_: act(tmp_path))
    monkeypatch.setattr(standard_streams, "prepare", lambda: None)
    assert cli.main(["config", "check"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("edge-classifier: `config` cannot go on (")
    assert said.endswith(f"{sentence}\n")


def test_an_output_that_does_not_block_gets_everything() -> None:
    """As the terminal that ssh shares between several programs."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    script = "from edge.commands import standard_streams; standard_streams.prepare(); print('x' * 300_000)"
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    with writer, os.fdopen(read) as output:
        assert len(output.read()) == 300_001
        assert writer.stderr is not None
        assert writer.stderr.read() == ""
    assert writer.returncode == 0


def test_a_closed_output_is_not_the_next_file_that_is_opened(tmp_path: Path) -> None:
    """Otherwise what a library prints would end in the fallback log."""
    script = "import sys, os; from edge.commands import standard_streams; standard_streams.prepare();"
    script += f"file = open({str(tmp_path / 'log')!r}, 'w'); os.write(1, b'a library'); sys.exit(file.fileno() < 3)"
    done = subprocess.run(["bash", "-c", '"$@" >&- 2>&- <&-', "_", sys.executable, "-c", script], check=False)
    assert done.returncode == 0
    assert (tmp_path / "log").read_text() == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("home", [None, "/nothing"])
def test_a_user_without_an_account_or_a_home_gets_the_system_s_places(home: str | None) -> None:
    prefix = ("setpriv", f"--reuid={UNKNOWN}", f"--regid={UNKNOWN}", "--clear-groups")
    variables = {"HOME": home, "XDG_STATE_HOME": None, "STATE_DIRECTORY": None, "USER": None, "LOGNAME": None}
    done = run("config show --json", prefix=prefix, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    state = Path(json.loads(done.stdout)["fallback"]["path"]).parent
    assert state == Path("/var/lib/edge-classifier" if home is None else "/nothing/.local/state/edge-classifier")
