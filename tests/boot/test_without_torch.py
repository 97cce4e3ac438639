"""Tests an install without torch: a model made elsewhere, upgrade, rollback, removal, and a model made on the box."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boot.machine import CHECKOUT, PATIENCE, Box, booted, step

pytestmark = pytest.mark.timeout(600 * PATIENCE)

WEIGHTS = "weights/resnet18-pqf.pth"


def export(folder: Path) -> Path:
    """The archive of a bundle that is made on this machine, which has torch."""
    weights = Path(os.environ["EDGE_CLASSIFIER_TESTDATA"], WEIGHTS)
    target = "arm64" if Box.machine == "arm64" else "x86_64"
    command = [os.environ["PYTHON"], "-m", "edge", "export", "--engine", "onnxruntime", "--target", target, "--json"]
    command += ["--weights", str(weights), "--output", str(folder / "models")]
    made = subprocess.run(command, cwd=CHECKOUT, check=True, stdout=subprocess.PIPE, text=True)
    bundle = Path(json.loads(made.stdout)["bundle"])
    subprocess.run(["tar", "-C", str(bundle.parent), "-czf", str(folder / "bundle.tgz"), bundle.name], check=True)
    return folder / "bundle.tgz"


@pytest.fixture(scope="module")
def box(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    bundle = export(tmp_path_factory.mktemp("bundle"))
    with booted(photos, tmp_path_factory.mktemp("box")) as started:
        started.do("put", str(bundle), str(Path(os.environ["EDGE_CLASSIFIER_TESTDATA"], WEIGHTS)))
        started.run("sudo cp -r photos /srv/")
        yield started


def install(box: Box, options: str) -> str:
    output = box.run(f"cd edge-classifier && sudo ./install.sh --yes {options} 2>&1")
    print(output)
    return output


def torches(box: Box) -> list[str]:
    """The folders of torch, and Debian's package, that the box has."""
    find = "find / -xdev -path '*-packages/torch' -o -path '*/site/torch'; dpkg -l | grep python3-torch"
    return [line for line in box.run(find, user="root", check=False).splitlines() if "torch" in line]


@pytest.fixture(scope="module")
def installed(box: Box) -> str:
    with step("sudo ./install.sh --bundle") as saw:
        output = install(box, "--bundle ~/bundle.tgz --device box --source file:/srv/photos")
        saw(next(line for line in output.splitlines() if line.startswith("edge-classifier runs:")))
    return output


def test_1_the_service_runs_without_torch_and_its_events_arrive(box: Box, installed: str) -> None:
    assert "without torch" in installed
    assert "edge-classifier runs: camera online, broker online" in installed
    assert "Something is missing" not in installed
    assert torches(box) == []
    assert box.show("MemoryMax") == str(256 << 20)
    (event,) = box.hears("event")
    assert event["model"].startswith("resnet18-int8-")
    assert box.crashes() == 0


def test_2_doctor_finds_nothing_that_keeps_it_from_running(box: Box, installed: str) -> None:
    assert installed
    result = box.run("sudo edge-classifier doctor --json", check=False)
    findings = {finding["check"]: finding for finding in json.loads(result.splitlines()[-1])["findings"]}
    print(*findings.values(), sep="\n")
    bad = {name: finding["sentence"] for name, finding in findings.items() if finding["severity"] != "ok"}
    assert set(bad) <= {"clock", *(["service", "restarts"] if Box.machine == "arm64" else [])}, bad


def test_3_an_upgrade_keeps_engine_and_model(box: Box, installed: str) -> None:
    assert installed
    model = box.run("readlink /var/lib/edge-classifier/models/current")
    box.run("sed -i 's/^__version__ = .*/__version__ = \"0.9.8\"/' edge-classifier/edge/__init__.py")
    with step("sudo ./install.sh, an upgrade") as saw:
        assert "without torch" in install(box, "")
        saw(box.run("edge-classifier --version").strip())
    assert box.run("edge-classifier --version") == "edge-classifier 0.9.8\n"
    assert box.run("readlink /var/lib/edge-classifier/models/current") == model
    assert torches(box) == []
    assert box.crashes() == 0
    assert box.hears("event")


def test_4_roll_back_goes_to_the_release_before(box: Box, installed: str) -> None:
    assert installed
    install(box, "--rollback")
    assert box.run("edge-classifier --version") != "edge-classifier 0.9.8\n"
    assert box.crashes() == 0
    assert box.hears("event")


def test_5_uninstall_leaves_nothing(box: Box, installed: str) -> None:
    assert installed
    assert "python3-onnxruntime" in install(box, "--uninstall --purge") or Box.machine == "arm64"
    find = "find /opt /etc/systemd /var/lib -name 'edge-classifier*' -o -name without-torch.conf"
    assert "edge-classifier" not in box.run(find, user="root")


def test_6_without_a_bundle_the_model_is_made_with_a_torch_that_is_removed_again(box: Box, installed: str) -> None:
    assert installed
    with step("sudo ./install.sh --engine onnxruntime --weights FILE") as saw:
        output = install(
            box, "--engine onnxruntime --weights ~/resnet18-pqf.pth --device box --source file:/srv/photos"
        )
        saw(next(line for line in output.splitlines() if line.startswith("edge-classifier runs:")))
    assert "with torch, which is removed again" in output
    assert torches(box) == []
    assert "/" not in box.run(
        "sudo find /opt/edge-classifier '(' -name build -o -name cache ')' -not -path '*/site-packages/*'"
    )
    assert box.crashes() == 0
    (event,) = box.hears("event")
    assert event["model"].startswith("resnet18-int8-")
