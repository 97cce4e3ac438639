"""Tests a device with the engine onnxruntime: the daemon, its page and clients' photos within 256 MB.

tests/boot/test_without_torch.py tests the rest of such an install, on a machine where no limit of memory holds.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.device.conftest import CHECKOUT, Device

pytestmark = pytest.mark.timeout(600)

CGROUP = "/sys/fs/cgroup/system.slice/edge-classifier.service"
# Sends photos to the page: a small one, a phone's, turned by its EXIF, and two of 50 megapixels. They are made here, in
# another process than the service's, and of squares, so that the PNG is small enough to be sent.
ASK = """
import json, urllib.error, urllib.request
import cv2, numpy as np
small = open('/var/lib/edge-classifier/models/current/golden.jpg', 'rb').read()
pixels = cv2.imdecode(np.frombuffer(small, np.uint8), 1)
def photo(kind, size):
    return cv2.imencode(kind, cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST))[1].tobytes()
phone = photo('.jpg', (4032, 3024))
turned = bytes.fromhex('ffe100224578696600004d4d002a00000008000101120003000000010006000000000000')
photos = (small, phone[:2] + turned + phone[2:], photo('.jpg', (8192, 6103)), photo('.png', (8192, 6103)), small)
token = open('/etc/edge-classifier/web-token').read().strip()
for path, body in (('/', None), ('/api/status', None), *(('/predict', body) for body in photos)):
    request = urllib.request.Request('http://127.0.0.1:5000' + path, body, {'Authorization': 'Bearer ' + token},
                                     method='PUT' if body else 'GET')
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        answer = error
    text = answer.read().decode()
    print(json.dumps([path, answer.status, text if path == '/predict' else '']))
"""


def export_for_onnx_runtime(folder: Path) -> Path:
    """The archive of a bundle for the engine onnxruntime, made here, as for a board that cannot make it."""
    weights = Path(os.environ["EDGE_CLASSIFIER_TESTDATA"], "weights", "resnet18-pqf.pth")
    export = [sys.executable, "-m", "edge", "export", "--engine", "onnxruntime", "--weights", str(weights)]
    export += ["--output", str(folder / "models"), "--json"]
    made = subprocess.run(export, cwd=CHECKOUT, check=True, stdout=subprocess.PIPE, text=True)
    bundle = Path(json.loads(made.stdout)["bundle"])
    subprocess.run(["tar", "-C", str(bundle.parent), "-czf", str(folder / "bundle.tgz"), bundle.name], check=True)
    return folder / "bundle.tgz"


@pytest.fixture(scope="module")
def installed(device: Device, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The installer's output; the checkout and the bundle are in /root/without-torch."""
    folder = tmp_path_factory.mktemp("source") / "without-torch"
    (folder / "edge-classifier").mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=CHECKOUT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-xf", "-", "-C", str(folder / "edge-classifier")], input=archive, check=True)
    export_for_onnx_runtime(folder)
    device.put(folder, "/root")
    device.ssh("modprobe vivid n_devs=1 node_types=0x1")
    return device.ssh(
        "cd /root/without-torch/edge-classifier && ./install.sh --bundle ../bundle.tgz --device lab --web 2>&1"
    )


@pytest.fixture(scope="module")
def process(device: Device, installed: str) -> str:
    """The daemon's process id, started like after a boot: the pages of the libraries count as this service's."""
    assert installed
    device.ssh("systemctl stop edge-classifier; echo 3 > /proc/sys/vm/drop_caches; systemctl start edge-classifier")
    return device.show("MainPID")


def test_20_a_bundle_made_elsewhere_is_installed_without_torch(device: Device, installed: str) -> None:
    print(installed)
    assert "ONNX Runtime and everything else from Debian, without torch" in installed
    assert "edge-classifier runs: camera online, broker online" in installed
    assert device.show("MemoryMax") == str(256 << 20)


def test_21_the_daemon_its_page_and_photos_fit_into_256_mb(device: Device, process: str) -> None:
    (event,) = device.hears("event")
    path = "/root/ask.py"
    device.ssh(f"cat > {path} <<'END'\n{ASK}\nEND")
    page, status, small, phone, jpeg, png, again = map(json.loads, device.ssh(f"python3 {path}").splitlines())
    print(small, phone, jpeg, png, sep="\n")
    print(
        device.ssh(
            f"grep -E '^(Vm(RSS|HWM)|Rss)' /proc/{process}/status; head -n 20 {CGROUP}/memory.{{peak,events,stat}}"
        )
    )
    assert [answer[1] for answer in (page, status, small, phone, again)] == [200] * 5
    assert json.loads(small[2])["top"] == json.loads(again[2])["top"]
    for answer in (jpeg, png):
        assert answer[1] == 200 or (answer[1] == 413 and "too large for this box's memory" in answer[2])
    assert device.ssh(f"grep -c -i torch /proc/{process}/maps", check=False) == "0\n"
    # Neither the daemon nor its decoder was killed, and frames go on.
    assert "oom_kill 0" in device.ssh(f"cat {CGROUP}/memory.events").splitlines()
    assert (device.show("MainPID"), device.show("NRestarts")) == (process, "0")
    (later,) = device.hears("event")
    assert later["model"] == event["model"]
