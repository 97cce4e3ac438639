"""Tests that the wheel contains what the daemon needs, and nothing else."""

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edge

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of what git tracks, so that no build directory is left in the checkout."""
    directory = tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, check=False)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    for name in filter(None, tracked.stdout.decode().split("\0")):
        target = directory / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (CHECKOUT / name).exists():
            target.write_bytes((CHECKOUT / name).read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(directory), str(directory / "source")], check=True)
    return zipfile.ZipFile(next(directory.glob("edge_classifier-*.whl")))


def metadata(wheel: zipfile.ZipFile, name: str) -> str:
    return wheel.read(f"edge_classifier-{edge.__version__}.dist-info/{name}").decode()


def test_the_command_is_edge_classifier(wheel: zipfile.ZipFile) -> None:
    scripts = configparser.ConfigParser()
    scripts.read_string(metadata(wheel, "entry_points.txt"))
    assert dict(scripts["console_scripts"]) == {"edge-classifier": "edge.cli:main"}


def test_the_metadata_names_version_licence_and_pythons(wheel: zipfile.ZipFile) -> None:
    lines = metadata(wheel, "METADATA").splitlines()
    assert f"Version: {edge.__version__}" in lines
    assert "Requires-Python: <3.14,>=3.10" in lines
    assert any(line in ("License: Apache-2.0", "License-Expression: Apache-2.0") for line in lines)


def test_it_holds_every_file_of_the_package_and_only_those(wheel: zipfile.ZipFile) -> None:
    tracked = subprocess.run(["git", "ls-files", "edge"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside == {name for name in tracked.stdout.splitlines() if (CHECKOUT / name).exists()}


def test_the_licence_and_the_notice_travel_with_it(wheel: zipfile.ZipFile) -> None:
    files = {Path(name).name for name in wheel.namelist() if ".dist-info/" in name}
    assert {"LICENSE", "NOTICE"} <= files
