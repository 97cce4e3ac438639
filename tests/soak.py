"""The soak test: the real daemon with a video and a broker that fails again and again.

It fails if memory grows by more than 1 MB an hour once warm, if file descriptors or threads grow at all, or if an event
that the daemon reports as made reached neither a subscriber whose session survives the broker's restarts nor the
fallback log.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from tests.broker import Mosquitto, Subscriber, eventually
from tests.daemon_process import Daemon, run_command
from tests.delivery.room import stored_ids

FPS = 10
WARM_UP_SHARE = 0.5  # until caches, also those for outages, and the allocator have their final size
SAMPLE_EVERY_S = 2.0
MAX_SLOPE_MB_PER_H = 1.0
NOISE_MB = 1.0  # in a short soak a smaller change is no evidence of a slope
MIB = 1024 * 1024


class Sample(NamedTuple):
    """The process's memory, file descriptors and threads at one moment."""

    at_s: float
    resident_bytes: int
    descriptors: int
    threads: int


def sample(pid: int, began: float) -> Sample:
    """Read /proc."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines())
    return Sample(
        time.monotonic() - began,
        int(status["VmRSS"].split()[0]) * 1024,
        sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        int(status["Threads"]),
    )


def slope_mb_per_h(samples: list[Sample]) -> float:
    """The slope of memory over time, by least squares, in MB an hour."""
    mean_t = sum(s.at_s for s in samples) / len(samples)
    mean_m = sum(s.resident_bytes for s in samples) / len(samples)
    above = sum((s.at_s - mean_t) * (s.resident_bytes - mean_m) for s in samples)
    below = sum((s.at_s - mean_t) ** 2 for s in samples)
    return above / below * 3600 / MIB if below else 0.0


def run(
    minutes: float, bundle: Path, video: Path, seed: int, folder: Path
) -> tuple[list[Sample], list[str], list[str], str, int]:
    """Let it run.

    Returns:
        The samples, the ids of the events that a subscriber received and of those that the stop left in the
        fallback log, the daemon's log, and the number of faults.
    """
    chance = random.Random(seed)
    broker = Mosquitto(folder, persistent=True)
    broker.start()
    subscriber = Subscriber(broker, "edge/porch/+")
    clip = folder / "clip.avi"
    clip.symlink_to(video.resolve())
    config = folder / "config.toml"
    config.write_text(
        f'[device]\nname = "porch"\n[camera]\nsource = "file:{clip}"\nloop = true\nfps = {FPS}\n'
        f'[model]\nbundle = "{bundle}"\nthreads = 1\n[decision]\nevery_frame = true\n[mqtt]\nurl = "{broker.url}"\n'
        f'[fallback]\npath = "{folder / "fallback.db"}"\n[web]\nenabled = false\n',
        encoding="utf-8",
    )
    daemon = Daemon([sys.executable, "-m", "edge", "run", "--config", str(config)], folder)
    samples: list[Sample] = []
    faults = 0
    try:
        daemon.wait_ready()
        began = time.monotonic()
        next_fault = began + chance.uniform(5, 20)
        while time.monotonic() - began < minutes * 60:
            samples.append(sample(daemon.process.pid, began))
            time.sleep(SAMPLE_EVERY_S)
            if time.monotonic() >= next_fault:
                if chance.random() < 0.7:
                    # Stopped, not killed, because a killed broker may lose what it has just acknowledged.
                    broker.stop()
                    time.sleep(chance.uniform(0.5, 10))
                    broker.start()
                else:
                    clip.unlink()  # the clip cannot be opened again when it ends meanwhile
                    time.sleep(chance.uniform(20, 60))
                    clip.symlink_to(video.resolve())
                faults += 1
                next_fault = time.monotonic() + chance.uniform(10, 40)
        show = ("fallback", "show", "--json", "--config", config)
        eventually(lambda: json.loads(run_command(*show).stdout)["events"] == 0, "the log is empty", 60)
        took = daemon.stop()
        print(f"stopped {took:.1f} s after SIGTERM")
        # The last events may still be on their way, or be on disk.
        stored = stored_ids(folder / "fallback.db")
        with contextlib.suppress(AssertionError):  # main() says which are missing
            eventually(lambda: not missing(heard(subscriber) + stored, daemon.log), "every event", 30)
        return samples, heard(subscriber), stored, daemon.log, faults
    finally:
        daemon.close()
        subscriber.close()
        broker.kill()


def heard(subscriber: Subscriber) -> list[str]:
    """The ids of all received events, with repetitions."""
    return subscriber.ids("event") + subscriber.ids("replay")


def missing(ids: list[str], log: str) -> dict[str, list[int]]:
    """Run → counters of the events that are not accounted for; the daemon's last line has the number that it made."""
    last_line = re.search(r"(\d+) events made", log)
    assert last_line is not None, f"the daemon's last line is missing: {log[-3000:]}"
    made = int(last_line[1])
    runs: dict[str, set[int]] = defaultdict(set)
    for identity in ids:
        prefix, _, counter = identity.rpartition("-")
        runs[prefix].add(int(counter))
    if not runs:
        return {"the run": list(range(made))}
    return {run: lost for run, seen in runs.items() if (lost := sorted(set(range(made)) - seen))}


def main() -> int:
    """Run the soak, print the result, and return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--bundle", type=Path, help="a model bundle (default: made from --weights)")
    parser.add_argument("--weights", type=Path, help="FP32 weights")
    parser.add_argument("--video", type=Path, required=True, help="the clip that loops")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = options.bundle
        if bundle is None:
            made = run_command("export", "--weights", options.weights, "--output", f"{folder}/models")
            assert made.returncode == 0, made.stderr
            bundle = Path(folder, "models", "current").resolve()
        samples, ids, stored, log, happened = run(options.minutes, bundle, options.video, options.seed, Path(folder))
    warm = samples[int(len(samples) * WARM_UP_SHARE) :]
    slope = slope_mb_per_h(warm)
    grown = (max(s.resident_bytes for s in warm[-10:]) - max(s.resident_bytes for s in warm[:10])) / MIB
    lost = missing(ids + stored, log)
    first, last = warm[0], warm[-1]
    resident = f"{first.resident_bytes / MIB:.1f} MB warm, {last.resident_bytes / MIB:.1f} MB at the end"
    twice, gone = len(ids) - len(set(ids)), sum(map(len, lost.values()))
    print(f"{options.minutes:g} minutes, {happened} faults of the broker and the camera")
    print(f"resident memory    {resident}: {slope:+.2f} MB an hour (least squares)")
    print(f"file descriptors   {first.descriptors} warm, {last.descriptors} at the end")
    print(f"threads            {first.threads} warm, {last.threads} at the end")
    print(
        f"events             {len(set(ids))} arrived, {twice} of them twice, {len(stored)} in the log, {gone} missing"
    )
    faults = []
    if slope > MAX_SLOPE_MB_PER_H and grown > NOISE_MB:
        faults.append("memory grows")
    if min(s.descriptors for s in warm[-10:]) > max(s.descriptors for s in warm[:10]):
        faults.append("file descriptors leak")
    if min(s.threads for s in warm[-10:]) > max(s.threads for s in warm[:10]):
        faults.append("threads leak")
    if lost:
        faults.append(f"events are missing: {lost}")
    if faults:
        print(log[-3000:], file=sys.stderr)
    print("FAILED: " + "; ".join(faults) if faults else "passed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
