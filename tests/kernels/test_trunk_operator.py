"""Tests `edge::trunk` in TorchScript: its results, several models and threads at once, and that all memory is freed."""

import copy
import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from edge.kernels import operator
from edge.kernels.library import KernelsError, Trunk
from edge.vision.torch_compat import load_script
from edge.workshop.export.quantize.kernels_network import trunk_bytes
from tests.kernels.small_resnet import FEATURES, SIDE, pictures, ranges_of, small_resnet


@pytest.fixture(scope="module", autouse=True)
def registered(built: Path) -> None:
    operator.register()
    operator.register()  # may be repeated


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    """Two networks as TorchScript."""
    return [trunk_bytes(network, ranges_of(network)) for network in (small_resnet(1), small_resnet(2))]


def run(script: torch.jit.ScriptModule, pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        features: torch.Tensor = script(pixels)
    return features


def alive() -> int:
    """How many networks the library holds."""
    gc.collect()
    return sum(type(thing) is Trunk for thing in gc.get_objects())  # isinstance asks lazy modules, which warn


def resident_kb() -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


@pytest.mark.parametrize("bottleneck", [False, True])
def test_its_features_are_those_of_the_float_network(bottleneck: bool) -> None:
    network, pixels = small_resnet(1, bottleneck=bottleneck), pictures(20)
    script = load_script(trunk_bytes(network, ranges_of(network)))
    with torch.inference_mode():
        expected = torch.cat([dict(network.values(one))["layer4.0"].mean((2, 3)) for one in pixels.split(1)])
    found = run(script, pixels)
    assert (found.shape, found.dtype) == (expected.shape, torch.float32)
    assert float(torch.corrcoef(torch.stack((found.flatten(), expected.flatten())))[0, 1]) > 0.99
    assert float((found - expected).abs().mean() / expected.std()) < 0.05


def test_one_thread_and_four_give_the_same(files: list[bytes]) -> None:
    before, script = torch.get_num_threads(), load_script(files[0])
    answers = []
    try:
        for threads in (1, 2, 4, 1):
            torch.set_num_threads(threads)
            answers.append(run(script, pictures(5)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(answers[0], answer) for answer in answers)


def test_threads_share_one_model_and_two_models_run_beside_each_other(files: list[bytes]) -> None:
    scripts, pixels = [load_script(file) for file in files], pictures(8)
    expected = [torch.cat([run(script, one) for one in pixels.split(1)]) for script in scripts]
    assert not torch.equal(*expected)
    wrong: list[str] = []

    def many(number: int) -> None:
        for _ in range(10):
            if not torch.equal(run(scripts[number], pixels), expected[number]):
                wrong.append(f"model {number} gave other features")

    threads = [threading.Thread(target=many, args=(number % 2,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert alive() == 2


def test_what_a_model_holds_is_freed_with_it(files: list[bytes]) -> None:
    assert alive() == 0
    first = load_script(files[0])
    assert alive() == 0  # made by the first run, and once
    pixels = pictures(1)
    expected = run(first, pixels)
    run(first, pixels)
    assert alive() == 1
    shallow, deep = copy.copy(first), copy.deepcopy(first)
    del first
    assert torch.equal(run(shallow, pixels), expected)  # the data is shared, so there is still one
    assert alive() == 1
    assert torch.equal(run(deep, pixels), expected)  # the data is another
    assert alive() == 2
    del shallow
    assert alive() == 1
    del deep
    assert alive() == 0


def test_two_hundred_models_one_after_the_other_need_the_memory_of_one(files: list[bytes]) -> None:
    """A swap of models loads the next one before the first is gone."""
    pixels = pictures(1)
    held = load_script(files[0])
    for cycle in range(200):
        following = load_script(files[(cycle + 1) % 2])
        run(following, pixels)
        held = following
        if cycle == 49:
            before = resident_kb()
    del held, following
    assert alive() == 0
    assert resident_kb() - before < 150 * 20  # the data alone has 40 kB, and what is made of it more


def test_wrong_pixels_and_damaged_data_are_errors_that_say_so(files: list[bytes]) -> None:
    script = load_script(files[0])
    with pytest.raises(RuntimeError, match=rf"takes uint8 pixels \(photos, {SIDE}, {SIDE}, 3\)"):
        run(script, torch.zeros((1, 8, 8, 3), dtype=torch.uint8))
    with pytest.raises(RuntimeError, match=r"it was given torch\.float32"):
        run(script, torch.zeros((1, SIDE, SIDE, 3)))
    data = dict(script.named_buffers())["data"]
    for wrong in (data[:-64], data[:1], data.flip(0), data.float()):
        with pytest.raises(KernelsError, match="data"):
            torch.ops.edge.trunk(pictures(1), wrong, FEATURES)
    with pytest.raises(ValueError, match=f"gives {FEATURES} features"):
        torch.ops.edge.trunk(pictures(1), data, FEATURES + 1)


def test_its_shape_is_known_without_running_it() -> None:
    pixels = torch.empty((3, SIDE, SIDE, 3), dtype=torch.uint8, device="meta")
    found = torch.ops.edge.trunk(pixels, torch.empty(9, dtype=torch.uint8, device="meta"), 512)
    assert (found.shape, found.dtype, found.device.type) == ((3, 512), torch.float32, "meta")


def test_in_a_process_of_its_own_it_comes_before_the_model_and_survives_a_fork(
    files: list[bytes], built: Path, tmp_path: Path
) -> None:
    """Without the operator torch refuses the file, so the engine registers it first. With two threads there is one more
    than before, from OpenMP's pool. After a fork it is missing, and waiting for it would never end.
    """
    (tmp_path / "trunk.ts").write_bytes(files[0])
    program = f"""\
import os, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
sys.path[:] = {sys.path!r}
import torch
from edge.kernels import library, operator
from edge.vision.torch_compat import load_script
from tests.kernels.small_resnet import pictures
file = Path({str(tmp_path / "trunk.ts")!r}).read_bytes()
try:
    load_script(file)
except RuntimeError as error:
    print("edge::trunk" in str(error))
library.DIRECTORY = Path({str(built)!r})
operator.register()
torch.set_num_threads(2)
script, threads = load_script(file), len(os.listdir("/proc/self/task"))
expected = script(pictures(1))
print(len(os.listdir("/proc/self/task")) - threads)
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(script(pictures(1)), expected) else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("True\n1\n0\n", 0), done.stderr
