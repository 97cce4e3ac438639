"""Tests deploy/docker without Docker: hadolint finds nothing, and every file that it names exists.

No image is built here, because that needs Docker and its registry.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.settings.toml_file import load_settings
from tests.installer import program

CHECKOUT = Path(__file__).parents[2]
DOCKER = CHECKOUT / "deploy" / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture
def services() -> dict[str, Any]:
    """The services of the compose file."""
    yaml = pytest.importorskip("yaml")
    document: dict[str, dict[str, Any]] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    return document["services"]


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.prefix, "bin", "hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed: ./install.sh --dev brings it")
    result = subprocess.run([hadolint, DOCKER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_what_is_copied_is_there_and_reaches_the_build() -> None:
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()]
    assert "edge" in copied
    let_in = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for path in copied:
        assert list(CHECKOUT.glob(path)), path
        assert f"!{path}" in let_in, path


def test_the_installer_names_the_packages_of_the_image(tmp_path: Path) -> None:
    # All files of the checkout that are in the image at that point.
    shutil.copytree(CHECKOUT / "scripts" / "install", tmp_path / "scripts" / "install")
    command = re.findall(r"\$\((bash /src/[^)]*)\)", DOCKERFILE)[0].replace("/src", str(tmp_path)).split()
    packages = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "python3-numpy" in packages
    assert not [package for package in packages if package.startswith("mosquitto")]


@pytest.mark.parametrize("has_torch", [True, False], ids=["x86_64", "aarch64"])
def test_torch_comes_from_pypi_only_where_debians_is_not_installed(tmp_path: Path, has_torch: bool) -> None:
    did, source = tmp_path / "did", tmp_path / "src"
    shutil.copytree(CHECKOUT / "scripts" / "install", source / "scripts" / "install")
    for file in ("setup.py", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(CHECKOUT / file, source)
    program(tmp_path / "bin" / "python3", "#!/bin/sh\n")
    program(tmp_path / "bin" / "dpkg-query", f"#!/bin/sh\nexit {int(not has_torch)}\n")
    program(
        tmp_path / "venv" / "bin" / "python",
        f'#!/bin/sh\necho "$*" >>{did}\n'
        f'case $1 in *wheels.py) {sys.executable} "$@" && cat {source}/wanted/requirements.txt >>{did} ;; esac\n',
    )
    step = re.findall(r"^RUN (python3 -m venv (?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)[0]
    step = step.replace("/src", str(source)).replace("/opt/edge-classifier", str(tmp_path / "venv"))
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHON": str(tmp_path / "venv/bin/python")}
    subprocess.run(["bash", "-o", "pipefail", "-c", step], env=os.environ | environment, check=True)
    done = did.read_text()
    assert ("torch==" in done, "--require-hashes" in done) == (not has_torch, not has_torch)
    assert "-B -m edge.vision.int8_check\n-m pip install --no-cache-dir --no-index" in done


def test_the_settings_of_the_container_are_settings(services: dict[str, Any], tmp_path: Path) -> None:
    empty = tmp_path / "config.toml"
    empty.touch()
    environment = services["edge-classifier"]["environment"]
    settings = load_settings(empty, environment=environment)
    assert settings.mqtt.host == "broker"
    assert settings.mqtt.host in services
    # An address that other machines can reach requires a token.
    assert settings.web.token_file == "/run/secrets/web-token"


def test_nothing_is_reachable_from_other_machines(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
