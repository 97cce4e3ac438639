"""Tests that the installer determines and prints which weights it will use before it changes anything."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.broker import free_port
from tests.installer import CHECKOUT

CATALOGUE = CHECKOUT / "edge" / "workshop" / "export" / "weights.json"


CHECK_PYPI = """
. scripts/install/common.sh; . scripts/install/packages.sh
host= offline= stack=trixie torch_from=debian python_there=python3
check_pypi
echo "Debian's torch needs no PyPI"
torch_from=pypi
check_pypi
"""


CHOOSE = f"""
weights= host= state=/nowhere offline= root=/nowhere python_there={sys.executable}
cd {CHECKOUT}; . scripts/install/common.sh; . scripts/install/model.sh; cd {{copy}}"""


def saved() -> bytes:
    """The smallest zip file that looks like one of torch.save."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", b"")
    return archive.getvalue()


ZIP = saved()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout with what these tests need, an empty weights/ and a server that does not answer."""
    (tmp_path / "edge" / "workshop" / "export").mkdir(parents=True)
    (tmp_path / "scripts" / "install").mkdir(parents=True)
    (tmp_path / "weights").mkdir()
    shutil.copy(CHECKOUT / "scripts" / "install" / "weights.py", tmp_path / "scripts" / "install")
    entries = json.loads(CATALOGUE.read_text())
    for entry in entries:
        entry["url"] = entry.get("url") and f"http://127.0.0.1:{free_port()}/{entry['file']}"
    (tmp_path / "edge" / "workshop" / "export" / "weights.json").write_text(json.dumps(entries))
    return tmp_path


@pytest.fixture
def answering_server() -> Iterator[str]:
    """A server that answers with 404, which is enough: pip will report what is wrong."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()
        thread.join()


def ask(copy: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The output of scripts/install/weights.py there."""
    return subprocess.run(
        [sys.executable, copy / "scripts" / "install" / "weights.py", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_file_in_the_checkout_is_taken_as_export_takes_it(copy: Path) -> None:
    assert ask(copy, "in-checkout").stdout == "\n"
    mine = copy / "weights" / "mine.pth"
    mine.write_bytes(ZIP + b"mine")
    (copy / "weights" / "._mine.pth").write_bytes(b"what macOS leaves beside it")
    (copy / "weights" / "resnet50-0676ba61.pth").write_bytes(b"another network's")
    assert ask(copy, "in-checkout").stdout == f"{mine}\n"
    mine.rename(mine.with_suffix(".pt"))
    assert ask(copy, "in-checkout").stdout == f"{mine.with_suffix('.pt')}\n"
    mine.with_suffix(".pt").rename(mine)
    (copy / "weights" / "other.pth").write_bytes(ZIP + b"other")
    result = ask(copy, "in-checkout")
    assert result.returncode == 1
    assert "holds several weights (mine.pth, other.pth); choose one with --weights FILE." in result.stderr
    entries = json.loads((copy / "edge/workshop/export/weights.json").read_text())
    entries[0]["sha256"] = hashlib.sha256(ZIP + b"other").hexdigest()  # the default network's, under another name
    (copy / "edge/workshop/export/weights.json").write_text(json.dumps(entries))
    assert ask(copy, "in-checkout").stdout == f"{copy / 'weights' / 'other.pth'}\n"


def test_what_is_no_file_of_weights_is_passed_over_or_named_before_anything_is_done(copy: Path) -> None:
    weights = copy / "weights"
    os.mkfifo(weights / "pipe.pth")  # reading it would never end
    (weights / "folder.pth").mkdir()
    (weights / "dangling.pth").symlink_to(weights / "gone")
    assert (result := ask(copy, "in-checkout")).stdout == "\n", result.stderr
    (weights / "empty.pth").touch()
    assert (result := ask(copy, "in-checkout")).returncode == 1
    assert result.stderr == (
        f"{weights / 'empty.pth'} is empty; name a file that torch.save wrote, with --weights FILE.\n"
    )
    for content, why in [
        (b"PK\x03\x04 and then the download broke off", "is cut off: its download or its copy broke off"),
        (b"\n<html>404", "is a web page"),
        (b"weights", "holds no weights of PyTorch"),
        (b"PK\x05\x06" + bytes(18), "is a zip file without weights"),  # such as a wheel
    ]:
        (weights / "empty.pth").write_bytes(content)
        assert f"{weights / 'empty.pth'} {why}" in ask(copy, "in-checkout").stderr
    (weights / "resnet18-f37072fd.pth").write_bytes(ZIP)
    assert (result := ask(copy, "in-checkout")).returncode == 1
    assert "holds something else than the resnet18-f37072fd.pth that is known; fetch it again, or" in result.stderr


@pytest.mark.parametrize("url", ["notaurl", "http://[::1", "http://a b/", "file:///nowhere"])
def test_an_index_that_is_no_address_is_a_sentence(copy: Path, url: str) -> None:
    result = ask(copy, "pypi", PIP_INDEX_URL=url)
    assert result.returncode == 69
    assert (len(result.stdout.splitlines()), result.stderr) == (1, "")


def test_an_index_in_a_folder_is_one(copy: Path, tmp_path: Path) -> None:
    result = ask(copy, "pypi", PIP_INDEX_URL=tmp_path.as_uri())
    assert (result.returncode, result.stderr) == (0, "")


def test_a_directory_that_cannot_be_made_is_a_sentence(copy: Path) -> None:
    result = ask(copy, "fetch", str(CATALOGUE))
    assert result.returncode == 1
    assert result.stderr == f"{CATALOGUE} cannot be made (File exists); name another directory.\n"


def test_a_pip_conf_that_pip_will_complain_of_is_no_traceback(
    copy: Path, answering_server: str, tmp_path: Path
) -> None:
    (tmp_path / "pip.conf").write_bytes(b"index-url = \xe9\n")
    result = ask(copy, "pypi", PIP_CONFIG_FILE=str(tmp_path / "pip.conf"), PIP_INDEX_URL=answering_server)
    assert (result.returncode, result.stderr) == (0, "")


def test_where_neither_server_answers_nothing_is_begun(copy: Path) -> None:
    result = ask(copy, "in-reach", PIP_INDEX_URL=f"http://127.0.0.1:{free_port()}/simple")
    assert result.returncode == 69
    assert "resnet18's weights cannot be fetched from 127.0.0.1" in result.stdout
    assert "Put weights into weights/ here or name them with --weights FILE" in result.stdout
    assert len(result.stdout.splitlines()) == 1


def test_where_torch_comes_from_pypi_that_it_does_not_answer_is_known_before_anything_is_done() -> None:
    result = subprocess.run(
        ["bash", "-euc", CHECK_PYPI],
        cwd=CHECKOUT,
        env=os.environ | {"PIP_INDEX_URL": f"http://127.0.0.1:{free_port()}/simple"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "Debian's torch needs no PyPI\n"
    assert result.returncode == 69
    assert result.stderr.startswith("install.sh: PyPI, where torch comes from here, does not answer (")
    assert "see --offline" in result.stderr


def test_the_fall_back_is_announced(copy: Path, answering_server: str) -> None:
    result = ask(copy, "in-reach", PIP_INDEX_URL=answering_server)
    assert result.returncode == 0
    assert result.stdout.startswith("efficientnet_lite0 from PyPI, because resnet18's weights cannot be fetched from ")


def test_the_other_networks_file_in_the_checkout_is_the_fall_back(copy: Path) -> None:
    catalogue = copy / "edge" / "workshop" / "export" / "weights.json"
    entries = json.loads(catalogue.read_text())
    packaged = next(entry for entry in entries if entry.get("package"))
    (copy / "weights" / "renamed.pth").write_bytes(ZIP + b"lite0")
    packaged["sha256"] = hashlib.sha256(ZIP + b"lite0").hexdigest()
    catalogue.write_text(json.dumps(entries))
    nowhere = f"http://127.0.0.1:{free_port()}/simple"
    result = ask(copy, "in-reach", PIP_INDEX_URL=nowhere)
    assert result.returncode == 0
    assert result.stdout.startswith(
        "efficientnet_lite0 from weights/renamed.pth, because resnet18's weights cannot be "
    )
    chosen = subprocess.run(
        ["bash", "-euc", f'{CHOOSE.format(copy=copy)}; choose_weights; echo "$weights_file"'],
        env=os.environ | {"PIP_INDEX_URL": nowhere},
        capture_output=True,
        text=True,
        check=True,
    )
    assert chosen.stdout == f"{copy}/weights\n"  # given a folder, `export` records the requested network
    result = ask(copy, "fetch", str(copy / "fetched"), PIP_INDEX_URL=nowhere)
    assert result.returncode == 0, result.stdout
    assert [file.name for file in (copy / "fetched").iterdir()] == ["renamed.pth"]


class BrokenOff(BaseHTTPRequestHandler):
    """The connection ends in the middle of the file."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"PK")


def test_a_download_that_breaks_off_falls_back_too(copy: Path) -> None:
    catalogue = copy / "edge" / "workshop" / "export" / "weights.json"
    entries = json.loads(catalogue.read_text())
    with ThreadingHTTPServer(("127.0.0.1", 0), BrokenOff) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        entries[0]["url"] = f"http://127.0.0.1:{server.server_port}/{entries[0]['file']}"
        catalogue.write_text(json.dumps(entries))
        result = ask(copy, "fetch", str(copy / "fetched"), PIP_INDEX_URL=f"http://127.0.0.1:{free_port()}/simple")
        server.shutdown()
        thread.join()
    assert result.returncode == 69, result.stderr
    assert "cannot be fetched (IncompleteRead" in result.stdout
    assert "taking efficientnet_lite0's from PyPI instead" in result.stdout


def test_the_install_ends_before_anything_where_no_model_can_be_made(copy: Path) -> None:
    script = f"{CHOOSE.format(copy=copy)}; choose_weights; echo went on"
    result = subprocess.run(
        ["bash", "-euc", script],
        env=os.environ | {"PIP_INDEX_URL": f"http://127.0.0.1:{free_port()}/simple"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (69, "")
    assert result.stderr.startswith("install.sh: resnet18's weights cannot be fetched")
