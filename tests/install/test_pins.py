"""Tests that what is pinned is what is installed, each file checked by its sha256, for every kind of machine."""

import base64
import configparser
import functools
import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from pip._vendor.packaging.requirements import Requirement

from scripts.install import wheels
from tests.daemon_process import CHECKOUT

CONSTRAINTS = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8")
WHEELS = "scripts/install/wheels.py"
EXTRAS = ["export", "try", "dev", "browser"]
MADE_HERE = Path(sys.prefix) / "installed-dev,export,try"


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
@pytest.mark.parametrize("machine", ["aarch64", "x86_64"])
def test_every_machine_and_python_has_one_version_of_each_package_in_its_range(machine: str, python: str) -> None:
    seen = wheels.environment(machine, python)
    pinned = wheels.pins(CONSTRAINTS, seen)
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    lines = [setup["options"]["install_requires"], *(setup["options.extras_require"][extra] for extra in EXTRAS)]
    for wanted in [Requirement(line) for text in lines for line in text.splitlines() if line.strip()]:
        if wanted.marker is None or wanted.marker.evaluate(seen):
            assert wanted.specifier.contains(pinned[wanted.name].version), wanted
    for pin in pinned.values():
        assert pin.hashes, pin.name
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", digest) for digest in pin.hashes), pin.name
    markers = [Requirement(line.rstrip(" \\")) for line in CONSTRAINTS.splitlines() if re.match("[a-z0-9]", line)]
    count = Counter(r.name for r in markers if r.marker is None or r.marker.evaluate(seen))
    assert [name for name, times in count.items() if times > 1] == []


@pytest.mark.skipif(not MADE_HERE.exists(), reason="this environment was not made by ./install.sh --dev")
def test_what_is_installed_is_what_is_pinned_down_to_what_others_bring_along() -> None:
    pinned = wheels.pins(CONSTRAINTS, wheels.environment(os.uname().machine, "{}.{}".format(*sys.version_info)))
    waiting, versions = [Requirement(f"edge-classifier[{','.join(EXTRAS[:3])}]")], {}
    while waiting:
        wanted = waiting.pop()
        if wanted.name == "edge-classifier" or wanted.extras or wheels.name_of(wanted.name) not in versions:
            found = distribution(wanted.name)
            versions[wheels.name_of(wanted.name)] = found.version.partition("+")[0]
            for line in found.requires or []:
                needed = Requirement(line)
                if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in wanted.extras or [""]):
                    waiting.append(needed)
    del versions["edge-classifier"]
    assert len(versions) > 50
    assert {name: pinned[name].version if name in pinned else "not pinned" for name in versions} == versions


@pytest.mark.skipif(not MADE_HERE.exists(), reason="this environment was not made by ./install.sh --dev")
def test_what_is_pinned_for_this_machine_is_installed_whole(tmp_path: Path) -> None:
    """With `--no-deps` pip installs only what the list has, so a package that it lacks would be missing here."""
    command = [sys.executable, WHEELS, "wanted", tmp_path, "--extra", *EXTRAS[:3], "--cpu-index", "theirs"]
    subprocess.run(command, cwd=CHECKOUT, check=True)
    names = re.findall(r"^([a-z0-9-]+)==", (tmp_path / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    missing = []
    for name in [*names, "torch"]:
        try:
            distribution(name)
        except PackageNotFoundError:
            missing.append(name)
    assert missing == []
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert not [line for line in done.stdout.splitlines() if line.split()[0] in {"edge-classifier", *names}], (
        done.stdout
    )


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--extra", "nope", "invalid choice: 'nope'"),
        ("--only", "no_such_package", "constraints.txt has no no-such-package for "),
        ("--machine", "toaster", "invalid choice: 'toaster'"),
        ("--instead", "setup.cfg", "invalid choice: 'setup.cfg'"),
        ("--python", "banana", "'banana' is no version of Python; give it as 3.11."),
    ],
)
def test_what_there_is_not_is_refused_and_nothing_written(option: str, value: str, says: str, tmp_path: Path) -> None:
    command = [sys.executable, WHEELS, "wanted", tmp_path / "wanted", option, value]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert says in result.stderr
    assert not (tmp_path / "wanted").exists()


def wheel_of(folder: Path, name: str, version: str, text: str = "") -> str:
    """Write a wheel with one module; returns its sha256."""
    module, info = f"{name}.py", f"{name}-{version}.dist-info"
    files = {
        module: text,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for file, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        record += f"{file},sha256={digest},{len(content)}\n"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(file, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def install_pinned(wanted: Path, target: Path, *options: str, index: str = "") -> subprocess.CompletedProcess[str]:
    """Run the installer's function with another index in place of PyTorch's."""
    common = (CHECKOUT / "scripts/install/common.sh").read_text(encoding="utf-8")
    script = re.sub("cpu_index=https:.*", f"cpu_index={index}", common)
    return subprocess.run(
        ["bash", "-euc", f'{script}\ninstall_pinned "$@"', "_", sys.executable, wanted, "--target", target, *options],
        env=os.environ
        | {"PIP_CONFIG_FILE": os.devnull, "no_proxy": "127.0.0.1", "PIP_INDEX_URL": "http://127.0.0.1:9/"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_file_that_is_not_the_pinned_one_is_not_installed(tmp_path: Path) -> None:
    digest = wheel_of(tmp_path, "lamp", "1.0")
    pin = wheels.Pin("lamp", "1.0", (f"sha256:{digest}",), frozenset())
    wheels.write_wanted(tmp_path / "wanted", {"lamp": pin}, from_cpu_index=False)
    offline = ("--no-index", "--find-links", str(tmp_path))
    done = install_pinned(tmp_path / "wanted", tmp_path / "good", *offline)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "good/lamp.py").exists()
    wheel_of(tmp_path, "lamp", "1.0", "import evil\n")
    refused = install_pinned(tmp_path / "wanted", tmp_path / "bad", *offline)
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    assert not (tmp_path / "bad").exists()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """An index like PyTorch's: a page for each package, whose links end with the sha256."""
    (tmp_path / "index/torch").mkdir(parents=True)
    handler = functools.partial(Quiet, directory=str(tmp_path / "index"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


def test_torch_without_cuda_comes_from_its_own_index_and_is_held_to_what_that_says(tmp_path: Path, index: str) -> None:
    seen = wheels.environment("x86_64", "3.11")
    pinned = wheels.closure(wheels.pins(CONSTRAINTS, seen), {"torch"}, set())
    assert "nvidia-cudnn-cu13" in pinned
    assert "sympy" in pinned
    page = tmp_path / "index/torch/index.html"
    digest = wheel_of(page.parent, "torch", f"{pinned['torch'].version}+cpu")
    lamp = wheels.Pin("lamp", "1.0", (f"sha256:{wheel_of(tmp_path, 'lamp', '1.0')}",), frozenset())
    cuda = {name: pin for name, pin in pinned.items() if name == "torch" or wheels.CUDA.fullmatch(name)}
    wheels.write_wanted(tmp_path / "wanted", {**cuda, "lamp": lamp}, from_cpu_index=True)
    for published, right in ((digest, True), ("0" * 64, False)):
        (file,) = page.parent.glob("*.whl")
        page.write_text(f'<a href="{file.name.replace("+", "%2B")}#sha256={published}">{file.name}</a>')
        target = tmp_path / published[:4]
        done = install_pinned(tmp_path / "wanted", target, "--find-links", str(tmp_path), index=index)
        assert (done.returncode == 0) is right, done.stderr
        assert (target / "torch.py").exists() is right
        assert (target / "lamp.py").exists() is right
        assert right or "DO NOT MATCH THE HASHES" in done.stderr
