"""Tests that `--download DIR` fetches everything that `--offline DIR` needs on a machine without internet."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installer import CHECKOUT, install, program

TRIXIE = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_CODENAME=trixie\n'
# What the stages share; scripts/install/service sets it.
STAGES = """
name=edge-classifier dry_run=no offline= weights= for_suite= host= broker=given state=/nowhere
stack=jetson torch_from=pypi engine=torchscript bundle= weights_file=
for stage in common packages offline model release; do . scripts/install/$stage.sh; done
"""
# Not a virtual environment's Python, because a release uses the packages of the Python that made it.
SYSTEM_PYTHON = str(Path(sys.base_prefix, "bin", "python3"))
WEIGHTS = b"\x80\x02 as torch.save began before 1.6"
# As a Jetson's Python would have them.
TORCH = "__version__ = '2.8.0'\nclass cuda:\n    is_available = staticmethod(lambda: True)\n"
OPENCV = "CAP_GSTREAMER = 1800\nclass videoio_registry:\n    hasBackend = staticmethod(lambda backend: True)\n"


@pytest.fixture
def carried(tmp_path: Path) -> Path:
    """A download for trixie on a PC, on which all packages are Debian's."""
    (tmp_path / "weights.pth").write_bytes(WEIGHTS)
    result = install(
        CHECKOUT, "--download", tmp_path / "carried", "--for", "trixie/x86_64", "--weights", tmp_path / "weights.pth"
    )
    assert result.returncode == 0, result.stderr
    assert "sudo ./source/install.sh --offline ." in result.stdout
    assert "Its model will be made from weights.pth." in result.stdout
    apt = result.stdout.partition("sudo apt-get install")[2].partition("\n\n")[0].split()
    assert {"python3-torch", "python3-venv", "mosquitto"} <= set(apt)
    assert max(len(line) for line in result.stdout.splitlines() if str(tmp_path) not in line) <= 80
    return tmp_path / "carried"


def offline_on_trixie(
    carried: Path, *, has_packages: bool = True, machine: str = "x86_64"
) -> subprocess.CompletedProcess[str]:
    """The plan there, printed by the installer in the download."""
    root, stand_ins = carried.parent / "root", carried.parent / "bin"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "os-release").write_text(TRIXIE)
    (root / "var" / "lib" / "dpkg").mkdir(parents=True)
    debian = "amd64" if machine == "x86_64" else "arm64"
    (root / "var" / "lib" / "dpkg" / "status").write_text(f"Package: dpkg\nArchitecture: {debian}\n\n")
    (root / "usr" / "bin").mkdir(parents=True)
    (root / "usr" / "bin" / "python3").symlink_to("python3.13")
    program(stand_ins / "apt-get", "#!/bin/sh\nexit 1\n")
    program(stand_ins / "apt-cache", "#!/bin/sh\nexit 100\n")
    program(stand_ins / "dpkg-query", "#!/bin/sh\n" + ("echo install ok installed\n" if has_packages else "exit 1\n"))
    path = f"{stand_ins}:{os.environ['PATH']}"
    return install(carried / "source", "--dry-run", "--root", root, "--offline", carried, PATH=path)


def test_a_download_is_whole_and_says_what_each_file_must_be(carried: Path) -> None:
    subprocess.run(["sha256sum", "--quiet", "--check", "SHA256SUMS"], cwd=carried, check=True)
    assert (carried / "weights" / "weights.pth").read_bytes() == WEIGHTS
    assert sorted(path.name for path in carried.parent.iterdir()) == ["carried", "weights.pth"]
    result = offline_on_trixie(carried)
    assert result.returncode == 0, result.stderr
    assert "From Debian" not in result.stdout


def test_with_a_strict_umask_the_service_can_still_read_what_is_installed(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(WEIGHTS)
    download = ["--download", tmp_path / "carried", "--for", "trixie/x86_64", "--weights", tmp_path / "weights.pth"]
    command = ["bash", "-c", 'umask 077; exec ./install.sh "$@"', "_", *download]
    subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
    # Checked out with that umask, and made into a release by stand-ins for Python that do nothing.
    source, stand_in = tmp_path / "carried" / "source", tmp_path / "python3"
    assert [path for path in (tmp_path / "carried").rglob("*") if not path.stat().st_mode & 0o004] == []
    subprocess.run(["chmod", "-R", "go=", source], check=True)
    program(
        stand_in,
        '#!/bin/sh\n[ "$2" != venv ] || (mkdir -p $4/bin; cp $0 $4/bin/python; cp $0 $4/bin/edge-classifier)\n',
    )
    script = f"{STAGES}stack=trixie torch_from=debian weights_file=given"
    script += f" root={tmp_path}/opt release=$root/releases/1; make_release"
    subprocess.run(["bash", "-euc", script], cwd=source, env=os.environ | {"PYTHON": str(stand_in)}, check=True)
    closed = [path for path in (tmp_path / "opt").rglob("*") if not path.stat().st_mode & 0o004]
    assert closed == []


def test_packages_of_debian_that_are_missing_are_named_before_anything_is_done(carried: Path) -> None:
    result = offline_on_trixie(carried, has_packages=False)
    assert result.returncode == 69
    assert result.stderr.startswith(
        "install.sh: --offline brings no packages from Debian, and these are missing: python3 "
    )
    assert result.stderr.endswith("; install them with apt first.\n")
    assert "would do" not in result.stdout


def damage(carried: Path) -> None:
    (carried / "source" / "edge" / "cli.py").write_text("print('not what was carried')")


def add(carried: Path) -> None:
    (carried / "wheels" / "torch-99-py3-none-any.whl").touch()


def address_to_another(carried: Path) -> None:
    (carried / "target").write_text("bookworm aarch64 3.11\n")
    sums = (carried / "SHA256SUMS").read_text().splitlines()
    changed = subprocess.run(["sha256sum", "target"], cwd=carried, check=True, capture_output=True, text=True).stdout
    kept = [changed.rstrip() if line.endswith("  target") else line for line in sums]
    (carried / "SHA256SUMS").write_text("\n".join(kept) + "\n")


def forget(carried: Path) -> None:
    (carried / "SHA256SUMS").unlink()


@pytest.mark.parametrize(
    ("happens", "code", "sentence"),
    [
        (damage, 65, "is damaged: not every file matches SHA256SUMS"),
        (add, 65, "holds files that SHA256SUMS does not name"),
        (address_to_another, 69, 'is for "bookworm aarch64 3.11" and this machine is "trixie x86_64 3.13"'),
        (forget, 66, "holds no download; make one with ./install.sh --download DIR"),
    ],
)
def test_a_download_that_is_not_right_is_refused_before_anything_is_done(
    carried: Path, happens: object, code: int, sentence: str
) -> None:
    assert callable(happens)
    happens(carried)
    result = offline_on_trixie(carried)
    assert result.returncode == code
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "would do" not in result.stdout


def test_an_unknown_target_and_a_directory_that_is_there_are_refused(tmp_path: Path) -> None:
    result = install(CHECKOUT, "--download", tmp_path / "carried", "--for", "buster")
    assert (result.returncode, result.stdout) == (64, "")
    result = install(CHECKOUT, "--download", tmp_path / "carried", "--for", "jetson/amd64")
    assert (result.returncode, result.stdout) == (64, "")
    result = install(CHECKOUT, "--download", tmp_path, "--for", "trixie")
    assert (result.returncode, result.stdout) == (73, "")


@pytest.mark.parametrize(
    ("directory", "code"),
    [("{}/carried//", 0), ("{}/c d", 0), ("{}/none/carried", 73), ("", 73), ("/proc/carried", 73)],
)
def test_a_download_goes_where_it_can_be_written(directory: str, code: int, tmp_path: Path) -> None:
    dry = () if directory.startswith("/proc") else ("--dry-run",)  # where only an attempt shows it
    result = install(CHECKOUT, "--download", directory.format(tmp_path), "--for", "trixie/amd64", *dry)
    assert result.returncode == code, result.stderr
    assert f"in {tmp_path}/c" in result.stdout or code
    assert "//" not in result.stdout
    assert len(result.stderr.splitlines()) == (code != 0)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="no Jetson has it, and numpy 1 has no wheel for it")
@pytest.mark.timeout(600)
def test_a_release_is_made_from_the_wheels_with_no_index_in_reach(tmp_path: Path) -> None:
    """torch and OpenCV are there already, as on a Jetson, which saves fetching 200 MB."""
    for name, text in (("torch", TORCH), ("cv2", OPENCV)):
        (tmp_path / "site" / name).mkdir(parents=True)
        (tmp_path / "site" / name / "__init__.py").write_text(text)
    (tmp_path / "site" / "torch-2.8.0.dist-info").mkdir()
    (tmp_path / "site" / "torch-2.8.0.dist-info" / "METADATA").write_text("Name: torch\nVersion: 2.8.0\n")
    (tmp_path / "weights.pth").write_bytes(WEIGHTS)

    def stage(command: str, **environment: str) -> str:
        result = subprocess.run(
            ["bash", "-euc", f"{STAGES}\nlog={tmp_path}/log weights={tmp_path}/weights.pth\n{command}"],
            cwd=CHECKOUT,
            env=os.environ | {"PYTHON": SYSTEM_PYTHON} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr}"
        return result.stdout

    stage(f"download={tmp_path}/carried; download_all")
    wheels = [wheel.name.split("-")[0] for wheel in (tmp_path / "carried" / "wheels").iterdir()]
    assert "pydantic_core" in wheels
    assert not {"torch", "opencv_python_headless"} & set(wheels)

    result = stage(
        f"offline={tmp_path}/carried root={tmp_path}/opt release={tmp_path}/release; make_release",
        PYTHONPATH=str(tmp_path / "site"),
        # No index, no mirror and no cache, only the download.
        PIP_CONFIG_FILE=os.devnull,
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_EXTRA_INDEX_URL="",
        PIP_FIND_LINKS="",
        PIP_NO_CACHE_DIR="1",
    )
    assert result.splitlines()[-1].startswith("edge-classifier ")
    assert not (tmp_path / "carried" / "source" / "build").exists()
