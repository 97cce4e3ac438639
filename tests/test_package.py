"""Tests that the wheel contains what the daemon needs, and nothing else; on ARM64 also the kernels' library."""

import configparser
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edge
from edge.kernels import library
from edge.kernels.library import Library
from tests.kernels.compiler import need_compiler

CHECKOUT = Path(__file__).parents[1]


def tracked() -> list[str]:
    """The files that git tracks, as far as they exist."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [name for name in filter(None, listed.stdout.decode().split("\0")) if (CHECKOUT / name).exists()]


def built(directory: Path, processor: str, **environment: str) -> Path:
    """The wheel that a machine with this processor builds, from a copy of what git tracks."""
    for name in tracked():
        target = directory / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((CHECKOUT / name).read_bytes())
    (directory / "sitecustomize.py").write_text(f"import platform; platform.machine = lambda: {processor!r}")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*build, "--wheel-dir", str(directory), str(directory / "source")],
        env=os.environ | {"PYTHONPATH": str(directory)} | environment,
        check=True,
    )
    return next(directory.glob("edge_classifier-*.whl"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A PC's wheel; no build directory is left in the checkout."""
    return zipfile.ZipFile(built(tmp_path_factory.mktemp("wheel"), "x86_64"))


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


def contents(wheel: zipfile.ZipFile) -> set[str]:
    """What it installs, without the metadata."""
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


def test_it_holds_every_file_of_the_package_and_only_those(wheel: zipfile.ZipFile) -> None:
    assert contents(wheel) == {name for name in tracked() if name.startswith("edge/")}
    assert Path(str(wheel.filename)).name == f"edge_classifier-{edge.__version__}-py3-none-any.whl"


def test_on_arm64_it_has_the_kernels_library_too_and_the_tag_of_its_platform(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    need_compiler()
    file = built(tmp_path, "aarch64")
    assert re.fullmatch(rf"edge_classifier-{edge.__version__}-py3-none-linux_\w+\.whl", file.name)
    assert contents(zipfile.ZipFile(file)) - contents(wheel) == {f"edge/kernels/{library.file_name()}"}
    zipfile.ZipFile(file).extractall(tmp_path / "installed")
    Library(tmp_path / "installed" / "edge" / "kernels" / library.file_name())


def test_on_arm64_without_a_compiler_it_is_the_same_as_a_pcs(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    file = built(tmp_path, "aarch64", CC="/no/compiler")
    assert file.name.endswith("-py3-none-any.whl")
    assert contents(zipfile.ZipFile(file)) == contents(wheel)


def test_the_licence_and_the_notice_travel_with_it(wheel: zipfile.ZipFile) -> None:
    files = {Path(name).name for name in wheel.namelist() if ".dist-info/" in name}
    assert {"LICENSE", "NOTICE"} <= files
