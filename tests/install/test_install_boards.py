"""install.sh knows what is under it, and what it must leave alone there. None of these boards is at hand: what tells
them apart is laid out in a folder, and the plan is read."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installer import CHECKOUT, install, program

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="not Debian")

BOOKWORM = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_CODENAME=bookworm\n'
TRIXIE = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_CODENAME=trixie\n'
JAMMY = 'PRETTY_NAME="Ubuntu 22.04.5 LTS"\nVERSION_CODENAME=jammy\n'
PI = "Raspberry Pi 4 Model B Rev 1.4\0"
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


class Board:
    """The files that tell what a machine is, and the programs that tell what it has."""

    def __init__(self, directory: Path, os_release: str, model: str = "") -> None:
        self.root = directory / "root"
        self.bin = directory / "bin"
        self.site = directory / "site"
        (self.root / "etc").mkdir(parents=True)
        (self.root / "etc" / "os-release").write_text(os_release)
        (self.root / "proc" / "device-tree").mkdir(parents=True)
        (self.root / "proc" / "device-tree" / "model").write_text(model)
        (self.root / "var" / "lib" / "dpkg").mkdir(parents=True)
        self.is_built_for("arm64")
        program(self.bin / "dpkg-query", "#!/bin/sh\nexit 1\n")
        program(self.bin / "apt-cache", "#!/bin/sh\nexit 100\n")

    def is_built_for(self, architecture: str) -> None:
        """What its dpkg says of itself, as on the card in a reader."""
        (self.root / "var" / "lib" / "dpkg" / "status").write_text(
            f"Package: dpkg\nStatus: install ok installed\nArchitecture: {architecture}\n\n"
        )

    def offers(self, package: str) -> None:
        """apt knows it."""
        program(self.bin / "apt-cache", f'#!/bin/sh\n[ "$2" = {package} ]\n')

    def module(self, name: str, text: str) -> None:
        """What the machine's Python imports under a name."""
        (self.site / name).mkdir(parents=True, exist_ok=True)
        (self.site / name / "__init__.py").write_text(text)
        (self.site / f"{name}-2.8.0.dist-info").mkdir(exist_ok=True)
        (self.site / f"{name}-2.8.0.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 2.8.0\n")

    def plan(self, *options: str) -> subprocess.CompletedProcess[str]:
        """What would be done there."""
        path = f"{self.bin}:{os.environ['PATH']}"
        return install(CHECKOUT, "--dry-run", "--root", self.root, *options, PATH=path, PYTHONPATH=str(self.site))

    def stage(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """One function of the installer, alone."""
        script = (
            f". scripts/install/packages.sh; . scripts/install/release.sh; stack=jetson; host={self.root}; {command}"
        )
        return subprocess.run(
            ["bash", "-euc", script],
            cwd=CHECKOUT,
            env=os.environ | {"PYTHONPATH": str(self.site)} | environment,
            capture_output=True,
            text=True,
            check=False,
        )


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
    told = board.plan()
    machine, model, _lists, *steps = told.stdout.splitlines()
    assert machine.startswith("Raspberry Pi 4 Model B Rev 1.4, Debian GNU/Linux 13 (trixie), ")
    assert ("torch and everything else from Debian" in machine) is from_debian
    assert ("torch from PyPI, because Debian's has no kernels for INT8 here" in machine) is not from_debian
    packages = set(" ".join(step for step in steps if ": python3" in step).split())
    assert {"python3-numpy", "python3-opencv", "python3-picamera2", "mosquitto"} <= packages
    assert ("python3-torch" in packages) is from_debian
    # Where it is asked what it can do, that is known before everything else is fetched.
    assert ("python3-torch" in steps[0]) is from_debian, steps
    assert model.startswith("The model: ")


@pytest.mark.parametrize(("board", "told"), [(PI, True), ("", False)], ids=["a Pi", "another"])
def test_picamera2_is_not_left_out_unsaid_where_apt_has_no_lists_yet(tmp_path: Path, board: str, told: bool) -> None:
    plan = Board(tmp_path, TRIXIE, board).plan().stdout
    assert ("python3-picamera2 too, where apt offers it once its lists are fetched" in plan) is told


def test_beside_debians_packages_pip_brings_torch_and_no_numpy(tmp_path: Path) -> None:
    wanted = [sys.executable, WHEELS, "wanted", str(tmp_path), "--machine", "aarch64", "--python", "3.13"]
    subprocess.run([*wanted, "--only", "torch"], cwd=CHECKOUT, check=True)
    names = set(re.findall(r"^([a-z0-9-]+==\S+)", (tmp_path / "requirements.txt").read_text(), re.MULTILINE))
    assert {"torch==2.9.1", "sympy==1.14.0"} <= names  # and what it needs
    assert not [name for name in names if name.startswith(("numpy", "opencv", "nvidia"))]


def runs_int8(**environment: str) -> subprocess.CompletedProcess[str]:
    """How the installer tries a torch before it relies on it."""
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
    told = runs_int8()
    assert told.returncode == 0, told.stdout
    assert "with the kernels for" in told.stdout
    # The real one, without what Debian's build for arm64 lacks.
    (tmp_path / "sitecustomize.py").write_text(
        "import torch\ntype(torch.backends.quantized).supported_engines = ('none',)\n"
    )
    told = runs_int8(PYTHONPATH=str(tmp_path))
    assert told.returncode == 1
    assert "has no INT8 kernels for this processor (its engines: none)" in told.stdout


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
    told = jetson.plan()
    assert told.returncode == 0, told.stderr
    assert "torch and OpenCV stay NVIDIA's" in told.stdout
    assert not {"python3-torch", "python3-opencv", "python3-numpy"} & set(told.stdout.split())
    assert "python3-systemd" in told.stdout.split()


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
def test_a_jetson_without_nvidias_own_is_told_in_one_sentence_what_to_do(
    jetson: Board, torch: str, opencv: str, sentence: str
) -> None:
    jetson.module("torch", torch)
    jetson.module("cv2", opencv)
    told = jetson.plan()
    assert told.returncode == 69
    assert sentence in told.stderr
    assert len(told.stderr.splitlines()) == 1
    assert "would do" not in told.stdout


def test_what_a_jetson_has_is_left_to_it_by_pip(jetson: Board, tmp_path: Path) -> None:
    jetson.module("torchvision", "")
    assert jetson.stage(f"nvidia_pins {sys.executable}").stdout.split() == ["torch==2.8.0", "torchvision==2.8.0"]
    wanted = [sys.executable, WHEELS, "wanted", str(tmp_path), "--machine", "aarch64", "--python", "3.10"]
    beside = jetson.stage(". scripts/install/offline.sh; wheels_beside jetson").stdout.split()
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
    told = jetson.stage(f"{INSTALL_UNIT} stack=pypi; install_unit", T=str(tmp_path))
    assert told.returncode == 0, told.stderr
    for wanted in ("User=edge-classifier", "Group=edge-classifier", "NoNewPrivileges=yes"):
        assert f"-p {wanted} " in told.stdout
    assert "/opt/r/1/venv/bin/edge-classifier classify golden.jpg" in told.stdout
    assert (tmp_path / "unit.d" / "no-wx.conf").is_file()


@pytest.mark.parametrize(("systemd", "backs_off"), [("252", False), ("254", True), ("257", True)])
def test_restarts_come_ever_more_slowly_where_systemd_knows_how(
    jetson: Board, tmp_path: Path, systemd: str, backs_off: bool
) -> None:
    (tmp_path / "unit.d").mkdir()
    (tmp_path / "unit.d" / "back-off.conf").touch()
    told = jetson.stage(f"{INSTALL_UNIT} install_unit", T=str(tmp_path), SYSTEMD=systemd)
    assert told.returncode == 0, told.stderr
    assert (tmp_path / "unit.d" / "back-off.conf").exists() is backs_off


def test_a_jetson_gets_no_sandbox_that_was_tried_without_its_gpu(jetson: Board, tmp_path: Path) -> None:
    (tmp_path / "unit.d").mkdir()
    (tmp_path / "unit.d" / "no-wx.conf").touch()  # from an older installer
    told = jetson.stage(f"{INSTALL_UNIT} install_unit", T=str(tmp_path))
    assert (told.returncode, told.stdout) == (0, ""), told.stderr
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


def test_a_32_bit_system_is_told_what_to_put_in_its_place_even_under_a_64_bit_kernel(tmp_path: Path) -> None:
    program(tmp_path / "dpkg", "#!/bin/sh\necho armhf\n")
    told = install(CHECKOUT, "--dry-run", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (told.returncode, told.stdout) == (69, "")
    assert told.stderr == (
        "install.sh: This system is armhf, and torch is only for arm64 and amd64; put a 64-bit system in its place,"
        " such as Raspberry Pi OS (64-bit), and run this there.\n"
    )
    assert install(CHECKOUT, "--dry-run", "--uninstall", PATH=f"{tmp_path}:{os.environ['PATH']}").returncode == 0


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


def test_a_download_for_a_processor_that_torch_is_not_built_for_is_refused(tmp_path: Path) -> None:
    told = install(CHECKOUT, "--download", tmp_path / "carried", "--for", "trixie/armhf")
    assert told.returncode == 64
    assert "after a slash aarch64 or x86_64" in told.stderr
    assert list(tmp_path.iterdir()) == []
