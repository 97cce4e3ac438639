"""Tests that `--dry-run --root DIR` prints the plan for another machine, from the files of its card in a reader."""

import shutil
from pathlib import Path

import pytest

from tests.installer import CHECKOUT, PI, TRIXIE, Board, install

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="not Debian")


def test_another_machines_files_are_for_a_dry_run_alone(tmp_path: Path) -> None:
    result = install(CHECKOUT, "--root", tmp_path)
    assert result.returncode == 64
    assert "--root goes with --dry-run" in result.stderr


def test_a_folder_without_a_system_gets_no_plan(tmp_path: Path) -> None:
    Board(tmp_path, TRIXIE)
    (tmp_path / "root" / "var" / "lib" / "dpkg" / "status").unlink()  # the only file that names the processor
    for root in (tmp_path, tmp_path / "root", tmp_path / "nowhere", Path("/etc/passwd")):
        result = install(CHECKOUT, "--dry-run", "--root", root)
        assert (result.returncode, result.stdout) == (66, "")
        assert result.stderr.startswith(f"install.sh: There is no Debian in {root} ")


@pytest.mark.parametrize("architecture", ["armhf", "i386", "riscv64"])
def test_a_card_whose_system_torch_is_not_built_for_gets_no_plan(tmp_path: Path, architecture: str) -> None:
    board = Board(tmp_path, TRIXIE, PI)
    board.is_built_for(architecture)
    for options in ((), ("--download", tmp_path / "carried")):
        result = board.plan(*map(str, options))
        assert (result.returncode, result.stdout) == (69, "")
        assert f"This system is {architecture}, and torch is only for arm64 and amd64" in result.stderr


@pytest.mark.parametrize(("python", "code"), [("python3.9", 69), ("python3.13", 0), ("python3.14", 69)])
def test_a_card_whose_python_is_out_of_range_gets_no_plan(tmp_path: Path, python: str, code: int) -> None:
    board = Board(tmp_path, TRIXIE, PI)
    (board.root / "usr" / "bin").mkdir(parents=True)
    (board.root / "usr" / "bin" / "python3").symlink_to(python)
    result = board.plan()
    assert result.returncode == code, result.stderr
    assert ("Python 3.10 to 3.13 is needed, and the system in" in result.stderr) is (code != 0)


@pytest.mark.parametrize("options", [["--upgrade"], ["--rollback"], ["--uninstall"], ["--uninstall", "--purge"]])
def test_what_is_installed_on_a_card_is_not_judged_by_this_machine(tmp_path: Path, options: list[str]) -> None:
    result = Board(tmp_path, TRIXIE, PI).plan(*options)
    assert (result.returncode, result.stdout) == (64, "")
    assert "--root goes with a first install or --download" in result.stderr


def test_another_machine_s_file_is_looked_through_where_its_service_may(tmp_path: Path) -> None:
    board = Board(tmp_path, TRIXIE)
    assert "The camera: file:/srv/photos, in a loop" in board.plan("--source", "file:/srv/photos").stdout
    result = board.plan("--source", "file:/home/pi/photos")
    assert (result.returncode, result.stdout) == (66, "")
    assert "The service's sandbox hides /home" in result.stderr


def test_the_files_of_another_machine_are_read_as_they_were_written(tmp_path: Path) -> None:
    result = Board(tmp_path, 'PRETTY_NAME="The \\"13th\\" Debian"\r\nVERSION_CODENAME=trixie\r\n', PI).plan()
    assert result.returncode == 0, result.stderr
    assert ', The "13th" Debian, aarch64: torch from PyPI, because Debian' in result.stdout.splitlines()[0]


def test_what_another_machines_files_say_is_read_and_never_run(tmp_path: Path) -> None:
    trap = f'PRETTY_NAME="$(touch {tmp_path}/sprung)"\nVERSION_CODENAME=trixie\n'
    result = Board(tmp_path, trap).plan()
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "sprung").exists()
