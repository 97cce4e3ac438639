"""The daemon's threads of OpenMP: one pool, whose threads spin briefly, and a start that a signal can end."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge.board.openmp import SPIN_COUNT, spin_briefly
from tests.daemon_process import CHECKOUT

ONE_POOL = """
import os, sys, threading, time
from pathlib import Path
import numpy, torch
from edge.daemon.model_switch import ModelSwitch
from edge.photos.decode import read_photo
from edge.settings.schema import ModelSettings
from edge.status.snapshot import Status
from edge.vision.classifier import Classifier

def tasks(expected):
    '''The threads beyond those at the start, once they are as many as expected; an ended one takes a moment to go.'''
    until = time.monotonic() + 20
    while (count := len(os.listdir("/proc/self/task")) - before) != expected and time.monotonic() < until:
        time.sleep(0.01)
    return count

numpy.ones((64, 64)) @ numpy.ones((64, 64))  # NumPy's own threads and OpenCV's exist from here on
read_photo(Path(sys.argv[1], "golden.jpg"))
before = len(os.listdir("/proc/self/task"))
go, done, counts = threading.Semaphore(0), threading.Semaphore(0), []
switch = ModelSwitch(ModelSettings(bundle=Path(sys.argv[1]), threads=2), Status(), Classifier)

def infer():
    for _ in range(2):
        assert go.acquire(timeout=60)
        model.infer(model.new_input())
        counts.append(tasks(2))
        done.release()

thread = threading.Thread(target=infer)
model = switch.load()
loaded = tasks(0)
thread.start()
for _ in range(2):
    go.release()
    assert done.acquire(timeout=60)
    model = switch.load()  # as a swap loads: the previous model stays until this one is checked
thread.join()
print(loaded, *counts)
"""

FEW_PHOTOS = """
import os, sys
from pathlib import Path
import numpy
from edge.photos.decode import read_photo
from edge.settings.schema import ModelSettings
from edge.vision.batch import classify_photos, threads_for
from edge.vision.bundle import load_bundle
from edge.vision.classifier import Classifier

photo = Path(sys.argv[1], "golden.jpg")
numpy.ones((64, 64)) @ numpy.ones((64, 64))  # NumPy's own threads and OpenCV's exist from here on
read_photo(photo)
before = len(os.listdir("/proc/self/task"))
classifier = Classifier(load_bundle(Path(sys.argv[1])), ModelSettings(threads=2))
for _ in classify_photos(classifier, [photo] * 3, threads_for(3)):
    print(len(os.listdir("/proc/self/task")) - before)
"""

INTERRUPTED = """
import signal, threading
from concurrent.futures import ThreadPoolExecutor
from edge.daemon.signals import ending_at_once
with ending_at_once(signal.SIGINT), ThreadPoolExecutor(1) as loader:
    future = loader.submit(threading.Event().wait)
    print("loading", flush=True)
    future.result()
"""


def counts_of(program: str, bundle_dir: Path) -> list[int]:
    """The numbers of threads that a program prints, run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, bundle_dir],
        capture_output=True,
        text=True,
        check=True,
        cwd=CHECKOUT,
        timeout=100,
    )
    return [int(count) for count in done.stdout.split()]


def test_only_the_thread_that_infers_has_a_pool_also_after_a_swap(bundle_dir: Path) -> None:
    """Two pools would have more threads than processors, and OpenMP would put them to sleep at each operator."""
    loaded, *counts = counts_of(ONE_POOL, bundle_dir)
    assert loaded == 0  # the thread that loaded has ended, and its pool with it
    assert counts == [2, 2]  # the thread that infers, and the second one of its pool


def test_few_photos_are_classified_by_the_pool_that_loaded_the_model(bundle_dir: Path) -> None:
    """`classify PHOTO` and `evaluate` have one pool as well: two threads in all for a model with two."""
    assert counts_of(FEW_PHOTOS, bundle_dir) == [1] * 3  # beside the main thread


def test_ctrl_c_ends_a_start_although_another_thread_is_loading() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "loading\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == -signal.SIGINT
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        ({}, SPIN_COUNT),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, None),
    ],
)
def test_a_user_who_chose_how_threads_wait_keeps_it(chosen: dict[str, str], count: str | None) -> None:
    environment = dict(chosen)
    spin_briefly(environment)
    assert environment.get("GOMP_SPINCOUNT") == count


def test_the_unit_and_the_command_spin_equally_long() -> None:
    unit = (CHECKOUT / "systemd/edge-classifier.service").read_text(encoding="utf-8")
    assert re.findall(r"^Environment=GOMP_SPINCOUNT=(\d+)$", unit, re.MULTILINE) == [SPIN_COUNT]


def test_every_command_sets_it_before_torch_is_loaded() -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    program = "import os, sys; from edge.cli import main\ntry: main(['--version'])\nexcept SystemExit: pass\n"
    program += "print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules, 'cv2' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=CHECKOUT, env=environment
    )
    assert done.stdout.splitlines()[-1] == f"{SPIN_COUNT} False False"
