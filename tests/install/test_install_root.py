"""Tests that `--dry-run --root DIR` prints the plan for another machine, from the files of its card in a reader."""

import shutil
from pathlib import Path

import pytest

from tests.installer import CHECKOUT, PI, TRIXIE, Board, install

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="not Debian")


def test_another_machines_files_are_for_a_dry_run_alone(tmp_path: Path) -> None:
    told = install(CHECKOUT, "--root", tmp_path)
    assert told.returncode == 64
    assert "--root goes with --dry-run" in told.stderr


def test_a_folder_without_a_system_gets_no_plan(tmp_path: Path) -> None:
    Board(tmp_path, TRIXIE)
    (tmp_path / "root" / "var" / "lib" / "dpkg" / "status").unlink()  # which alone tells the processor
    for root in (tmp_path, tmp_path / "root", tmp_path / "nowhere", Path("/etc/passwd")):
        told = install(CHECKOUT, "--dry-run", "--root", root)
        assert (told.returncode, told.stdout) == (66, "")
        assert told.stderr.startswith(f"install.sh: There is no Debian in {root} ")


@pytest.mark.parametrize("architecture", ["armhf", "i386", "riscv64"])
def test_a_card_whose_system_torch_is_not_built_for_gets_no_plan(tmp_path: Path, architecture: str) -> None:
    board = Board(tmp_path, TRIXIE, PI)
    board.is_built_for(architecture)
    for options in ((), ("--download", tmp_path / "carried")):
        told = board.plan(*map(str, options))
        assert (told.returncode, told.stdout) == (69, "")
        assert f"This system is {architecture}, and torch is only for arm64 and amd64" in told.stderr


@pytest.mark.parametrize(("python", "code"), [("python3.9", 69), ("python3.13", 0), ("python3.14", 69)])
def test_a_card_whose_python_is_out_of_range_gets_no_plan(tmp_path: Path, python: str, code: int) -> None:
    board = Board(tmp_path, TRIXIE, PI)
    (board.root / "usr" / "bin").mkdir(parents=True)
    (board.root / "usr" / "bin" / "python3").symlink_to(python)
    told = board.plan()
    assert told.returncode == code, told.stderr
    assert ("Python 3.10 to 3.13 is needed, and the system in" in told.stderr) is (code != 0)


@pytest.mark.parametrize("options", [["--upgrade"], ["--rollback"], ["--uninstall"], ["--uninstall", "--purge"]])
def test_what_is_installed_on_a_card_is_not_told_by_this_machine(tmp_path: Path, options: list[str]) -> None:
    told = Board(tmp_path, TRIXIE, PI).plan(*options)
    assert (told.returncode, told.stdout) == (64, "")
    assert "--root goes with a first install or --download" in told.stderr


def test_another_machine_s_file_is_looked_through_where_its_service_may(tmp_path: Path) -> None:
    board = Board(tmp_path, TRIXIE)
    assert "The camera: file:/srv/photos, in a loop" in board.plan("--source", "file:/srv/photos").stdout
    told = board.plan("--source", "file:/home/pi/photos")
    assert (told.returncode, told.stdout) == (66, "")
    assert "The service's sandbox hides /home" in told.stderr


def test_the_files_of_another_machine_are_read_as_they_were_written(tmp_path: Path) -> None:
    told = Board(tmp_path, 'PRETTY_NAME="The \\"13th\\" Debian"\r\nVERSION_CODENAME=trixie\r\n', PI).plan()
    assert told.returncode == 0, told.stderr
    assert ', The "13th" Debian, aarch64: torch from PyPI, because Debian' in told.stdout.splitlines()[0]


def test_what_another_machines_files_say_is_read_and_never_run(tmp_path: Path) -> None:
    trap = f'PRETTY_NAME="$(touch {tmp_path}/sprung)"\nVERSION_CODENAME=trixie\n'
    told = Board(tmp_path, trap).plan()
    assert told.returncode == 0, told.stderr
    assert not (tmp_path / "sprung").exists()
