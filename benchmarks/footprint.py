"""Start and memory of this project, compared with a process that only imports torch and loads the same model.

    python -m benchmarks.footprint BUNDLE VIDEO [--rounds 3]

Both targets are ratios or differences within one run: first label ≤ 1.5 ×, daemon ≤ 60 MB above. Linux only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import BundleError
from edge.vision.bundle import load_bundle
from edge.workshop.bench.cold_start import first_label_s, import_library_s

_STEADY_S = 10  # the daemon's memory has to be constant for so long
_GIVE_UP_S = 90
# The least that a program with this model needs. It runs until its stdin is closed.
_BARE = """
import sys, torch
torch.backends.quantized.engine = sys.argv[1]
torch.set_num_threads(int(sys.argv[3]))
model = torch.jit.load(sys.argv[2])
print("loaded", flush=True)
sys.stdin.read()
"""


def main() -> None:
    """Measure in turns, so that other work on the machine disturbs both alike; print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle)
    threads = len(os.sched_getaffinity(0))
    command = [sys.executable, "-W", "ignore", "-c", _BARE, str(bundle.manifest.engine.options["kernels"])]
    command += [str(bundle.directory / bundle.manifest.files["trunk"].name), str(threads)]
    torch_s, bare_s, label_s, bare_mb = [], [], [], 0.0
    for _ in range(arguments.rounds):
        torch_s.append(import_library_s("torchscript"))
        with _running(command, "loaded") as (pid, seconds):
            bare_s.append(seconds)
            bare_mb = _resident_mb(pid)
        label_s.append(first_label_s(bundle.directory, bundle.golden, threads))
    bare, label = statistics.median(bare_s), statistics.median(label_s)
    print(f"load average {os.getloadavg()[0]:.1f}, median of {arguments.rounds}")
    print(f"import torch {statistics.median(torch_s):.2f} s, and the model loaded {bare:.2f} s, {bare_mb:.0f} MB")
    print(f"first label {label:.2f} s: {label / bare:.2f} ×")
    daemon_mb = _daemon_mb(bundle.directory, arguments.video)
    print(f"daemon {daemon_mb:.0f} MB: {daemon_mb - bare_mb:+.0f} MB")


def _daemon_mb(bundle: Path, video: Path) -> float:
    """Resident memory of the daemon at work, with its page and without a broker, once it stands still."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "CAMERA_SOURCE": f"file:{video.resolve()}",
            "CAMERA_LOOP": "true",
            "MODEL_BUNDLE": str(bundle),
            "MQTT_URL": "mqtt://127.0.0.1:9",  # the discard port: nothing answers
            "FALLBACK_PATH": f"{folder}/fallback.db",
            "WEB_LISTEN": "127.0.0.1:0",
        }
        environment = {f"EDGE_CLASSIFIER_{key}": value for key, value in settings.items()}
        with _running([sys.executable, "-m", "edge", "run"], "watches", **environment) as (pid, _):
            seen: list[float] = []
            for _ in range(_GIVE_UP_S):
                time.sleep(1)
                seen.append(_resident_mb(pid))
                if len(seen) > _STEADY_S and max(seen[-_STEADY_S:]) - min(seen[-_STEADY_S:]) < 1:
                    break
            return seen[-1]


@contextmanager
def _running(command: list[str], until: str, **environment: str) -> Iterator[tuple[int, float]]:
    """Run a process until the end of the block; yields its id and the seconds until its first line with `until`."""
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment,
    ) as process:
        assert process.stdout is not None
        try:
            found = next((line for line in process.stdout if until in line), None)
            if found is None:
                raise BundleError(f"A process ended before it printed `{until}`; run it by hand: {' '.join(command)}")
            yield process.pid, time.perf_counter() - began
        finally:
            process.terminate()


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


if __name__ == "__main__":
    main()
