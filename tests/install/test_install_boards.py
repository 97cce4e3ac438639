"""Tests that install.sh recognises the board and its Debian, and leaves the manufacturer's packages alone.

No board is needed: the files that identify one are written into a folder, and the printed plan is checked.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installer import CHECKOUT, PI, TRIXIE, Board, install, program

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="not Debian")

BOOKWORM = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_CODENAME=bookworm\n'
JAMMY = 'PRETTY_NAME="Ubuntu 22.04.5 LTS"\nVERSION_CODENAME=jammy\n'
ORIN = "NVIDIA Jetson Orin Nano Developer Kit\0"
WHEELS = "scripts/install/wheels.py"
TORCH = """\
__version__ = "{version}"
class cuda:
    @staticmethod
    def is_available(): return {cuda}
"""
OPENCV = """\
__version__, CAP_GSTREAMER = "4.8.0", 1800
class videoio_registry:
    @staticmethod
    def hasBackend(backend): return {gstreamer}
"""


@pytest.fixture
def jetson(tmp_path: Path) -> Board:
    board = Board(tmp_path, JAMMY, ORIN)
    board.module("torch", TORCH.format(version="2.8.0", cuda=True))
    board.module("cv2", OPENCV.format(gstreamer=True))
    return board


@pytest.mark.parametrize(
    ("architecture", "from_debian"), [("arm64", False), ("amd64", True)], ids=["Raspberry Pi OS", "a PC"]
)
def test_trixie_has_torch_from_debian_only_where_debians_runs_int8(
    tmp_path: Path, architecture: str, from_debian: bool
) -> None:
    board = Board(tmp_path, TRIXIE, PI)
    board.is_built_for(architecture)
    board.offers("python3-picamera2")
    result = board.plan()
    machine, model, _lists, *steps = result.stdout.splitlines()
    assert machine.startswith("Raspberry Pi 4 Model B Rev 1.4, Debian GNU/Linux 13 (trixie), ")
    assert ("torch and everything else from Debian" in machine) is from_debian
    assert ("torch from PyPI, because Debian's has no kernels for INT8 here" in machine) is not from_debian
    packages = set(" ".join(step for step in steps if ": python3" in step).split())
    assert {"python3-numpy", "python3-opencv", "python3-picamera2", "mosquitto"} <= packages
    assert ("python3-torch" in packages) is from_debian
    # If torch has to be tried, that happens before everything else is fetched.
    assert ("python3-torch" in steps[0]) is from_debian, steps
    assert model.startswith("The model: ")


@pytest.mark.parametrize(("board", "warned"), [(PI, True), ("", False)], ids=["a Pi", "another"])
def test_the_plan_names_picamera2_where_apt_has_no_lists_yet(tmp_path: Path, board: str, warned: bool) -> None:
    plan = Board(tmp_path, TRIXIE, board).plan().stdout
    assert ("python3-picamera2 too, where apt offers it once its lists are fetched" in plan) is warned


def test_with_debians_packages_pip_brings_torch_and_no_numpy(tmp_path: Path) -> None:
    wanted = [sys.executable, WHEELS, "wanted", str(tmp_path), "--machine", "aarch64", "--python", "3.13"]
    subprocess.run([*wanted, "--only", "torch"], cwd=CHECKOUT, check=True)
    names = set(re.findall(r"^([a-z0-9-]+==\S+)", (tmp_path / "requirements.txt").read_text(), re.MULTILINE))
    assert {"torch==2.9.1", "sympy==1.14.0"} <= names  # and what it needs
    assert not [name for name in names if name.startswith(("numpy", "opencv", "nvidia"))]


def runs_int8(**environment: str) -> subprocess.CompletedProcess[str]:
    """Run the installer's check of a torch."""
    return subprocess.run(
        ["bash", "-euc", f". scripts/install/packages.sh; runs_int8 {sys.executable}"],
        cwd=CHECKOUT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_torch_is_asked_for_its_engines_and_not_for_its_version(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    result = runs_int8()
    assert result.returncode == 0, result.stdout
    assert "with the kernels for" in result.stdout
    # The real one, without what Debian's build for arm64 lacks.
    (tmp_path / "sitecustomize.py").write_text(
        "import torch\ntype(torch.backends.quantized).supported_engines = ('none',)\n"
    )
    result = runs_int8(PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    assert "has no INT8 kernels for this processor (its engines: none)" in result.stdout


def test_on_bookworm_numpy_opencv_and_picamera2_come_from_debian_and_torch_does_not(tmp_path: Path) -> None:
    board = Board(tmp_path, BOOKWORM, PI)
    board.offers("python3-picamera2")
    machine, *steps = board.plan().stdout.splitlines()
    packages = next(step for step in steps if "From Debian" in step)
    assert machine.endswith("aarch64: numpy and OpenCV from Debian, torch and the rest from PyPI")
    assert {"python3-numpy", "python3-opencv", "python3-picamera2", "python3-systemd"} <= set(packages.split())
    assert "python3-torch" not in packages


@pytest.mark.parametrize("sign", ["nv_tegra_release", "device-tree"])
def test_a_jetson_is_known_by_either_sign_and_gets_no_torch_and_no_opencv(jetson: Board, sign: str) -> None:
    if sign == "nv_tegra_release":
        (jetson.root / "etc" / "nv_tegra_release").write_text("# R36 (release), REVISION: 4.3")
        (jetson.root / "proc" / "device-tree" / "model").unlink()
    result = jetson.plan()
    assert result.returncode == 0, result.stderr
    assert "torch and OpenCV stay NVIDIA's" in result.stdout
    assert not {"python3-torch", "python3-opencv", "python3-numpy"} & set(result.stdout.split())
    assert "python3-systemd" in result.stdout.split()


@pytest.mark.parametrize(
    ("torch", "opencv", "sentence"),
    [
        (
            "raise ImportError('no module named torch')",
            "",
            "cannot import torch (no module named torch); install NVIDIA's",
        ),
        (TORCH.format(version="2.9.1+cpu", cuda=False), "", "does not see the GPU; install NVIDIA's with sudo pip3"),
        (TORCH.format(version="2.5.0a0+nv24.8", cuda=True), "", "is older than 2.6; install NVIDIA's with sudo pip3"),
        (
            TORCH.format(version="2.8.0", cuda=True),
            "raise ImportError('libcudart')",
            "cannot import OpenCV (libcudart)",
        ),
        (TORCH.format(version="2.8.0", cuda=True), OPENCV.format(gstreamer=False), "is without GStreamer"),
    ],
)
def test_a_jetson_without_nvidias_own_is_refused_with_what_to_do(
    jetson: Board, torch: str, opencv: str, sentence: str
) -> None:
    jetson.module("torch", torch)
    jetson.module("cv2", opencv)
    result = jetson.plan()
    assert result.returncode == 69
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "would do" not in result.stdout


def test_what_a_jetson_has_is_left_to_it_by_pip(jetson: Board, tmp_path: Path) -> None:
    jetson.module("torchvision", "")
    assert jetson.stage(f"nvidia_pins {sys.executable}").stdout.split() == ["torch==2.8.0", "torchvision==2.8.0"]
    wanted = [sys.executable, WHEELS, "wanted", str(tmp_path), "--machine", "aarch64", "--python", "3.10"]
    beside = jetson.stage(". scripts/install/offline.sh; wheels_beside jetson pypi").stdout.split()
    subprocess.run([*wanted, *beside], cwd=CHECKOUT, check=True)
    requirements = (tmp_path / "requirements.txt").read_text()
    assert re.findall(r"^(?:.*torch|opencv.*|numpy|nvidia.*)==\S+", requirements, re.MULTILINE) == ["numpy==1.26.4"]
    assert "tomli==" in requirements  # which Python 3.10 needs, whatever this one is


# The installer's step that writes the unit and its drop-ins into T, where the engine runs in every sandbox.
INSTALL_UNIT = """
    name=edge-classifier root=/opt/r release=/opt/r/1 state=/var/s unit=$T/unit command_link=$T/link
    systemctl() { if [ "$1" = --version ]; then echo "systemd ${SYSTEMD:-252} (of Debian)"; fi; }
    golden_photo() { echo golden.jpg; }; systemd-run() { echo "$@"; }
"""


def test_the_installer_asks_the_engine_as_the_services_user(jetson: Board, tmp_path: Path) -> None:
    result = jetson.stage(f"{INSTALL_UNIT} stack=pypi; install_unit", T=str(tmp_path))
    assert result.returncode == 0, result.stderr
    for wanted in ("User=edge-classifier", "Group=edge-classifier", "NoNewPrivileges=yes"):
        assert f"-p {wanted} " in result.stdout
    assert "/opt/r/1/venv/bin/edge-classifier classify golden.jpg" in result.stdout
    assert (tmp_path / "unit.d" / "no-wx.conf").is_file()


@pytest.mark.parametrize(("systemd", "backs_off"), [("252", False), ("254", True), ("257", True)])
def test_restarts_come_ever_more_slowly_where_systemd_knows_how(
    jetson: Board, tmp_path: Path, systemd: str, backs_off: bool
) -> None:
    (tmp_path / "unit.d").mkdir()
    (tmp_path / "unit.d" / "back-off.conf").touch()
    result = jetson.stage(f"{INSTALL_UNIT} install_unit", T=str(tmp_path), SYSTEMD=systemd)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "unit.d" / "back-off.conf").exists() is backs_off


def test_a_jetson_gets_no_sandbox_that_was_tried_without_its_gpu(jetson: Board, tmp_path: Path) -> None:
    (tmp_path / "unit.d").mkdir()
    (tmp_path / "unit.d" / "no-wx.conf").touch()  # from an older installer
    result = jetson.stage(f"{INSTALL_UNIT} install_unit", T=str(tmp_path))
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    assert [path.name for path in (tmp_path / "unit.d").iterdir()] == ["jetson.conf"]


def test_a_jetsons_devices_are_opened_and_no_others(jetson: Board) -> None:
    for device in ("nvmap", "nvhost-ctrl", "nvgpu/igpu0/ctrl", "nvidiactl", "dri/renderD128", "nvme0", "nvram", "sda"):
        (jetson.root / "dev" / device).parent.mkdir(parents=True, exist_ok=True)
        (jetson.root / "dev" / device).touch()
    (jetson.root / "etc" / "group").write_text("video:x:44:\nrender:x:104:\n")
    drop_in = jetson.stage("jetson_drop_in").stdout.splitlines()
    assert "PrivateTmp=no" in drop_in  # the argus socket is in /tmp
    assert "SupplementaryGroups=render" in drop_in
    assert [line for line in drop_in if line.startswith("DeviceAllow=")] == [
        "DeviceAllow=/dev/dri/renderD128 rw",
        "DeviceAllow=/dev/nvgpu/igpu0/ctrl rw",
        "DeviceAllow=/dev/nvhost-ctrl rw",
        "DeviceAllow=/dev/nvidiactl rw",
        "DeviceAllow=/dev/nvmap rw",
    ]


def test_a_32_bit_system_is_refused_with_a_remedy_even_under_a_64_bit_kernel(tmp_path: Path) -> None:
    program(tmp_path / "dpkg", "#!/bin/sh\necho armhf\n")
    result = install(CHECKOUT, "--dry-run", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (result.returncode, result.stdout) == (69, "")
    assert result.stderr == (
        "install.sh: This system is armhf, and torch is only for arm64 and amd64; put a 64-bit system in its place,"
        " such as Raspberry Pi OS (64-bit), and run this there.\n"
    )
    assert install(CHECKOUT, "--dry-run", "--uninstall", PATH=f"{tmp_path}:{os.environ['PATH']}").returncode == 0


def test_a_download_for_a_processor_that_torch_is_not_built_for_is_refused(tmp_path: Path) -> None:
    result = install(CHECKOUT, "--download", tmp_path / "carried", "--for", "trixie/armhf")
    assert result.returncode == 64
    assert "after a slash aarch64 or x86_64" in result.stderr
    assert list(tmp_path.iterdir()) == []
