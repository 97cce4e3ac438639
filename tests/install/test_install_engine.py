"""Tests that `install.sh --engine onnxruntime` brings no torch, keeps its engine, and says where the model is from."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from scripts.install import bundle
from tests.install.test_install_boards import BOOKWORM, JAMMY, OPENCV, ORIN, TORCH
from tests.installer import CHECKOUT, PI, TRIXIE, Board, install

ONNX = ("--engine", "onnxruntime")
WHEELS = "scripts/install/wheels.py"
NAME = "resnet18-int8-3fa9c1"


def archive(folder: Path, engine: object, name: str = NAME, target: str = "any") -> Path:
    """A bundle's archive, as far as the installer looks into it."""
    text = json.dumps({"schema": 2, "engine": engine, "target": target}).encode()
    file = folder / f"{name}.tgz"
    with tarfile.open(file, "w:gz") as tar:
        for path, content in (("trunk.onnx", b"trunk"), ("bundle.json", text)):
            member = tarfile.TarInfo(f"{name}/{path}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file


@pytest.fixture
def given(tmp_path: Path) -> tuple[str, str]:
    return "--bundle", str(archive(tmp_path, {"name": "onnxruntime", "options": {}}))


@pytest.mark.parametrize(
    ("os_release", "model", "where", "from_debian"),
    [
        (
            TRIXIE,
            PI,
            "ONNX Runtime from PyPI, because Debian's needs a newer processor than a Pi 4's, and everything"
            " else from Debian, without torch",
            False,
        ),
        (TRIXIE, "", "ONNX Runtime and everything else from Debian, without torch", True),
        (BOOKWORM, PI, "numpy and OpenCV from Debian, ONNX Runtime and the rest from PyPI, without torch", False),
        (JAMMY, ORIN, "OpenCV stays NVIDIA's, ONNX Runtime and the rest from PyPI", False),
        (JAMMY, "", "ONNX Runtime and everything else from PyPI, without torch", False),
    ],
    ids=["trixie on a Pi", "trixie on a PC", "bookworm", "jetson", "another"],
)
def test_no_machine_gets_torch(
    tmp_path: Path, given: tuple[str, str], os_release: str, model: str, where: str, *, from_debian: bool
) -> None:
    board = Board(tmp_path, os_release, model)
    board.is_built_for("arm64" if model else "amd64")
    board.module(
        "cv2", "CAP_GSTREAMER = 1800\nclass videoio_registry:\n    hasBackend = staticmethod(lambda backend: 1)\n"
    )
    result = board.plan(*ONNX, *given)
    assert result.returncode == 0, result.stderr
    machine, chosen, *steps = result.stdout.splitlines()
    assert machine.endswith(where)
    assert chosen == f"The model: {given[1]}"
    packages = set(" ".join(step for step in steps if ": python3" in step).split())
    assert ("python3-onnxruntime" in packages) is from_debian
    assert "torch" not in " ".join(steps)
    assert any(step.endswith("with ONNX Runtime from PyPI (20 MB)") for step in steps) is (
        "PyPI" in where and model != ORIN
    )


@pytest.mark.parametrize(
    ("stack", "machine", "python"),
    [
        ("trixie", "aarch64", "3.13"),
        ("bookworm", "aarch64", "3.11"),
        ("jetson", "aarch64", "3.10"),
        ("pypi", "x86_64", "3.12"),
    ],
)
def test_pypi_brings_onnx_runtime_and_what_it_needs_and_nothing_of_torchs(
    tmp_path: Path, stack: str, machine: str, python: str
) -> None:
    beside = subprocess.run(
        ["bash", "-euc", f". scripts/install/offline.sh; wheels_beside {stack} none"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    wanted = [sys.executable, WHEELS, "wanted", str(tmp_path), "--machine", machine, "--python", python, *beside]
    subprocess.run(wanted, cwd=CHECKOUT, check=True)
    names = set(re.findall(r"^([a-z0-9-]+)==", (tmp_path / "requirements.txt").read_text(), re.MULTILINE))
    assert {"onnxruntime", "flatbuffers", "protobuf"} <= names
    assert ({"pydantic", "fastapi"} <= names) is (stack != "trixie")
    assert ("numpy" in names) is (stack in ("jetson", "pypi"))
    assert ("opencv-python-headless" in names) is (stack == "pypi")
    assert not [
        name for name in names if name in ("torch", "triton", "networkx") or name.startswith(("nvidia", "cuda"))
    ]


def test_the_engine_of_the_bundle_needs_no_option_and_another_one_is_refused(
    tmp_path: Path, given: tuple[str, str]
) -> None:
    board = Board(tmp_path, TRIXIE, PI)
    assert "without torch" in board.plan(*given).stdout
    result = board.plan(*given, "--engine", "torchscript")
    assert (result.returncode, result.stdout) == (64, "")
    assert "is for the engine onnxruntime, and --engine says torchscript; leave --engine out." in result.stderr
    for engine in ("qnnpack", {"name": "torchscript", "options": {"kernels": "qnnpack"}}):  # of schema 1 and 2
        assert "without torch" not in board.plan("--bundle", str(archive(tmp_path, engine, "of-torch"))).stdout


@pytest.mark.parametrize(
    ("made_for", "machine", "refused"),
    [
        ("x86_64", "arm64", True),
        ("arm64", "arm64", False),
        ("arm64", "amd64", True),
        ("any", "arm64", False),
        ("jetson", "arm64", True),
    ],
)
def test_a_model_for_another_machine_is_refused_before_anything_is_installed(
    tmp_path: Path, made_for: str, machine: str, *, refused: bool
) -> None:
    board = Board(tmp_path, TRIXIE, PI)
    board.is_built_for(machine)
    file = archive(tmp_path, {"name": "torchscript", "options": {"kernels": "onednn"}}, target=made_for)
    result = board.plan("--bundle", str(file))
    assert result.returncode == (65 if refused else 0), result.stderr
    if refused:
        here = {"arm64": "arm64", "amd64": "x86_64"}[machine]
        assert result.stdout == ""
        assert f"{file} is a model for {made_for}, and the machine is {here}; make it again:" in result.stderr
        assert result.stderr.endswith(f" edge-classifier export --engine onnxruntime --target {here}\n")


def test_a_model_for_another_machine_is_not_downloaded_for_it(tmp_path: Path) -> None:
    file = archive(tmp_path, {"name": "torchscript", "options": {}}, target="x86_64")
    result = install(CHECKOUT, "--download", tmp_path / "carried", "--for", "bookworm", "--bundle", file)
    assert (result.returncode, result.stdout) == (65, "")
    assert "is a model for x86_64, and the machine is arm64" in result.stderr
    assert not (tmp_path / "carried").exists()


def test_a_model_for_a_gpu_brings_torch_and_one_of_a_later_version_is_a_sentence(tmp_path: Path) -> None:
    board = Board(tmp_path, JAMMY, ORIN)
    board.module("torch", TORCH.format(version="2.8.0", cuda=True))
    board.module("cv2", OPENCV.format(gstreamer=True))
    given = "--bundle", str(archive(tmp_path, {"name": "cuda", "options": {}}, target="jetson"))
    result = board.plan(*given)
    assert (result.returncode, result.stderr) == (0, "")
    assert "without torch" not in result.stdout
    result = board.plan("--bundle", str(archive(tmp_path, {"name": "later", "options": {}})))
    assert (result.returncode, result.stdout) == (65, "")
    assert "is for the engine later, which this version does not have" in result.stderr


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--engine", "tensorflow"), 64, "--engine takes torchscript or onnxruntime."),
        (
            ("--bundle", "nowhere"),
            66,
            "There is no {here}/nowhere; --bundle names an archive or a directory that export made.",
        ),
        (
            ("--bundle", "https://example.org/mine.tgz"),
            64,
            "--bundle takes a file; fetch it first, such as with: curl -LO https://example.org/mine.tgz",
        ),
        (
            ("--bundle", "README.md", "--weights", "README.md"),
            64,
            "A model comes from --bundle or from --weights; give one of them.",
        ),
    ],
)
def test_an_impossible_option_is_one_sentence(
    tmp_path: Path, options: tuple[str, ...], code: int, sentence: str
) -> None:
    result = install(CHECKOUT, "--dry-run", "--root", Board(tmp_path, TRIXIE).root, *options)
    assert (result.returncode, result.stdout) == (code, "")
    assert result.stderr == f"install.sh: {sentence.format(here=CHECKOUT)}\n"


def test_what_is_no_bundle_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "text.tgz").write_text("text")
    (tmp_path / "folder").mkdir()
    with tarfile.open(tmp_path / "other.tar", "w") as tar:
        tar.add(tmp_path / "text.tgz", "text.tgz")
    board = Board(tmp_path, TRIXIE)
    for file in ("text.tgz", "folder", "other.tar"):
        result = board.plan("--bundle", str(tmp_path / file))
        assert (result.returncode, result.stdout) == (65, ""), file
        assert f"{tmp_path / file} is no bundle" in result.stderr
        assert len(result.stderr.splitlines()) == 1
    (tmp_path / "folder" / "bundle.json").write_text('{"engine": []}')
    assert "its bundle.json cannot be read" in board.plan("--bundle", str(tmp_path / "folder")).stderr
    (tmp_path / "folder" / "bundle.json").write_text('{"engine": {"name": "onnxruntime"}}')
    assert bundle.engine_of(tmp_path / "folder") == "onnxruntime"


# What was installed before, in the board's files.
CHOOSE = """
action=install_service offline= bundle= engine= state=/var/lib/edge-classifier root=/opt/edge-classifier
python_there=$PYTHON weights=
. scripts/install/common.sh
"""


def chosen(board: Board, *, engine: str = "") -> list[str]:
    """The engine, and whether the model that is there stays."""
    script = f"{CHOOSE}engine={engine}; choose_engine; echo $engine; if has_model; then echo stays; fi"
    result = board.stage(script, PYTHON=sys.executable)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_an_upgrade_keeps_engine_and_model_and_another_engine_needs_another_model(tmp_path: Path) -> None:
    board = Board(tmp_path, TRIXIE, PI)
    assert chosen(board) == ["torchscript"]
    model = board.root / "var" / "lib" / "edge-classifier" / "models" / "current"
    model.mkdir(parents=True)
    (model / "bundle.json").write_text('{"engine": {"name": "onnxruntime"}}')
    assert chosen(board) == ["onnxruntime", "stays"]  # uninstalled without --purge, and installed again
    current = board.root / "opt" / "edge-classifier" / "current"
    current.mkdir(parents=True)
    assert chosen(board) == ["torchscript", "stays"]  # made by an older installer, for torch
    (current / "torch-from").write_text("none\n")
    assert chosen(board) == ["onnxruntime", "stays"]
    assert chosen(board, engine="torchscript") == ["torchscript"]
    (model / "bundle.json").write_text('{"engine": "qnnpack"}')
    assert chosen(board, engine="torchscript") == ["torchscript", "stays"]


def test_where_torch_has_no_room_a_sentence_says_where_else_the_model_is_made(tmp_path: Path) -> None:
    board = Board(tmp_path, TRIXIE, PI)
    for memory, disk, what in ((1 << 40, 1, "MB of memory"), (1, 1 << 40, "MB of disk")):
        script = f"{CHOOSE}host= model_from= root=/opt/x build_memory={memory} build_disk={disk}; check_build"
        result = board.stage(script, PYTHON=sys.executable)
        assert result.returncode == 69, result.stderr
        assert "edge-classifier export --engine onnxruntime" in result.stderr
        assert "--bundle FILE" in result.stderr
        assert what in result.stderr


@pytest.mark.parametrize(
    ("machine", "index", "refused"), [("x86_64", "false", True), ("x86_64", "true", False), ("aarch64", "false", False)]
)
def test_torch_with_cuda_needs_more_disk_and_comes_where_pytorchs_index_is_out_of_reach(
    tmp_path: Path, machine: str, index: str, *, refused: bool
) -> None:
    board = Board(tmp_path, TRIXIE)
    script = f"""{CHOOSE}
        machine_here() {{ echo {machine}; }}; reaches_cpu_index() {{ {index}; }}
        host= model_from= root=/opt/x build_memory=1 build_disk=1 build_disk_cuda={1 << 40} python_there=/bin/false
        check_build
    """
    result = board.stage(script, PYTHON=sys.executable)
    assert result.returncode == (69 if refused else 0), result.stderr
    assert (f"{(1 << 40) + 1} MB of disk" in result.stderr) is refused


def test_the_service_without_torch_may_use_a_fifth_of_the_memory_and_gets_it_back(tmp_path: Path) -> None:
    board = Board(tmp_path, TRIXIE, PI)
    script = """
        name=edge-classifier root=/opt/r release=/opt/r/1 state=/var/s unit=$T/unit stack=trixie
        systemctl() { :; }; golden_photo() { echo golden.jpg; }; systemd-run() { :; }
        torch_from=none; install_unit; ls $T/unit.d; torch_from=pypi; install_unit; ls $T/unit.d
    """
    result = board.stage(script, T=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["no-wx.conf", "without-torch.conf", "no-wx.conf"]
    assert "MemoryMax=256M" in (CHECKOUT / "systemd" / "drop-ins" / "without-torch.conf").read_text()


def test_a_download_carries_the_bundle_and_brings_its_engine(tmp_path: Path, given: tuple[str, str]) -> None:
    options = ("--download", tmp_path / "carried", "--for", "trixie/x86_64", *ONNX)
    result = install(CHECKOUT, *options)
    assert (result.returncode, result.stdout) == (64, "")
    assert "add --bundle FILE" in result.stderr
    result = install(CHECKOUT, *options, *given)
    assert result.returncode == 0, result.stderr
    assert f"Its model will be {NAME}.tgz." in result.stdout
    apt = result.stdout.partition("sudo apt-get install")[2].partition("\n\n")[0].split()
    assert "python3-onnxruntime" in apt
    assert "python3-torch" not in apt
    assert (tmp_path / "carried" / "bundle" / f"{NAME}.tgz").is_file()
    assert list((tmp_path / "carried" / "wheels").iterdir()) == []
    # There the engine is the download's, and so is the model.
    board = Board(tmp_path, TRIXIE)
    board.is_built_for("amd64")
    (board.root / "usr" / "bin").mkdir(parents=True)
    (board.root / "usr" / "bin" / "python3").symlink_to("python3.13")
    (board.bin / "dpkg-query").write_text("#!/bin/sh\necho install ok installed\n")
    path = f"{board.bin}:{os.environ['PATH']}"
    result = install(
        tmp_path / "carried" / "source", "--dry-run", "--root", board.root, "--offline", tmp_path / "carried", PATH=path
    )
    assert result.returncode == 0, result.stderr
    assert "without torch" in result.stdout
    assert f"The model: {tmp_path}/carried/bundle/{NAME}.tgz" in result.stdout
