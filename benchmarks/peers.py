"""Compare this project with other engines on the same weights, photos and threads, in one run.

Each engine runs in a separate process, because two OpenMP runtimes or thread pools in one process would share
processors and memory. The processes take turns, one round of 20 photos at a time, so that other work on the machine
disturbs all of them alike; a ratio is the median of the rounds' ratios. In each round every engine is measured twice:
while nothing else runs, and beside busy loops, which want the processors as other programs on a box do.

    python -m benchmarks.peers --weights resnet18.pth --photos DIR --frames DIR --calibration DIR

On a machine with other work, `chrt -f 10 python -m benchmarks.peers --busy 0 …` gives the engines the processors.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.arrangements import ARRANGEMENTS
from benchmarks.engines import ENGINES, OURS, REFERENCE
from benchmarks.report import BUSY, arrangements, markdown
from edge.board import host
from edge.workshop.bench.busy_loops import busy_loops

PAUSE_S = 0.1  # between turns, so that threads which spin while idle have gone to sleep
KINDS = ("infer", "classify")


@dataclass
class Result:
    """The measurements of one engine."""

    name: str
    version: str = ""
    failure: str = ""
    loaded_s: float = 0.0
    resident_mb: float = 0.0
    top: dict[str, int] = field(default_factory=dict)
    rounds: dict[str, list[list[float]]] = field(default_factory=lambda: defaultdict(list))
    processor: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def median_ms(self, kind: str) -> float:
        """The median of all measurements."""
        return statistics.median(ms for one in self.rounds[kind] for ms in one)

    def cpu_ms(self, kind: str) -> float:
        """The median of the processor time, summed over all threads."""
        return statistics.median(self.processor[kind])

    def fastest_ms(self, kind: str) -> float:
        """The least disturbed measurement."""
        return min(ms for one in self.rounds[kind] for ms in one)

    def ratio(self, kind: str, to: Result) -> float:
        """This engine's time divided by the time of `to`: the median of the rounds' ratios."""
        pairs = zip(self.rounds[kind], to.rounds[kind], strict=True)
        return statistics.median(statistics.median(mine) / statistics.median(other) for mine, other in pairs)


class Worker:
    """One engine's process."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.worker", name, arguments.models]
        command += [arguments.weights, str(arguments.threads), arguments.photos, arguments.frames, str(arguments.limit)]
        environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads)}
        if name in ARRANGEMENTS:
            environment |= ARRANGEMENTS[name].environment
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if arguments.verbose else subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def answer(self) -> dict[str, Any]:
        """The next answer of the process."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"it ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, what: str) -> dict[str, Any]:
        """Send a command; returns the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what}) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()


def measure(arguments: argparse.Namespace) -> list[Result]:
    """Start every engine that works on this machine, then measure them in turns."""
    names = [name for name in ENGINES if name == OURS or any(part in name for part in arguments.only.split(","))]
    results = [Result(name) for name in (*names, *(ARRANGEMENTS if arguments.arrangements else ()))]
    workers: dict[str, Worker] = {}
    with ExitStack() as stack:
        for result in results:
            worker = Worker(result.name, arguments)
            stack.callback(worker.close)
            try:
                _start(worker, result)
            except (RuntimeError, OSError) as error:
                result.failure = str(error)
                print(f"{result.name}: left out, {error}", flush=True)
            else:
                workers[result.name] = worker
        # The loops inherit these processors, which are those that the engines use.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
        running = [result for result in results if not result.failure]
        for number in range(arguments.rounds):
            _turns(running, workers, "")
            if arguments.busy:
                with busy_loops(arguments.busy):
                    _turns(running, workers, BUSY)
            print(f"\rround {number + 1} of {arguments.rounds}", end="", flush=True)
    print()
    return results


def _start(worker: Worker, result: Result) -> None:
    """Wait until the engine is loaded; raises RuntimeError or OSError if it cannot be."""
    loaded = worker.answer()
    result.version, result.loaded_s = loaded["version"], loaded["loaded_s"]
    if result.name not in ARRANGEMENTS:
        labels = worker.ask("labels")
        result.top, result.resident_mb = labels["top"], labels["resident_mb"]
    print(f"{result.name} {result.version}: loaded in {result.loaded_s:.1f} s", flush=True)


def _turns(results: list[Result], workers: dict[str, Worker], suffix: str) -> None:
    """One round of each engine, alone or from pixels to label."""
    for result in results:
        for kind in KINDS:
            time.sleep(PAUSE_S)
            answer = workers[result.name].ask(kind)
            result.rounds[kind + suffix].append(answer["ms"])
            result.processor[kind + suffix] += answer["cpu_ms"]


def convert(arguments: argparse.Namespace) -> None:
    """Make the engines' missing files, each in a separate process."""
    models = Path(arguments.models)
    models.mkdir(parents=True, exist_ok=True)
    made = {"bundle": "bundle", "torchscript": "fp32.ts", "onnx": "int8.onnx", "executorch": "int8.pte"}
    for maker, file in (made | {"ncnn": "ncnn-int8.bin"}).items():
        if not (models / file).exists():
            print(f"converting for {maker} …", flush=True)
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.networks", maker]
            done = subprocess.run(
                [*command, arguments.weights, arguments.calibration, models],
                check=False,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                print(f"no {maker} here: {done.stderr.strip().splitlines()[-1]}", flush=True)


def truth(photos: Path) -> dict[str, int]:
    """The right class of each photo."""
    with (photos / "labels.csv").open(encoding="utf-8") as file:
        return {row["file"]: int(row["index"]) for row in csv.DictReader(file)}


def disturbance(load: float | None = None) -> str:
    """What the machine's load over the last five minutes means for the figures."""
    if os.sched_getscheduler(0) == os.SCHED_FIFO:  # the engines' processes inherit it
        return "At real-time priority (`chrt -f 10`): other work got no processor"
    load = os.getloadavg()[1] if load is None else load
    if load < 2:  # 1 is the engine that is measured
        return "Nothing else ran"
    return f"**The load was {load:.0f}: other work disturbed the clock's columns; go by processor time**"


def main() -> int:
    """Convert, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, help="FP32 ResNet-18 weights, as torchvision's")
    parser.add_argument("--photos", required=True, help="labelled photos, with labels.csv: accuracy")
    parser.add_argument("--frames", required=True, help="full-size photos: the first 20 are timed")
    parser.add_argument("--calibration", required=True, help="photos that the other engines calibrate on")
    parser.add_argument("--models", default="build/peers", help="where the engines' files are kept (%(default)s)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--limit", type=int, default=0, help="classify so many labelled photos only (0: all)")
    only = "measure this project and the engines with one of these, separated by commas, in their names"
    parser.add_argument("--only", default="", help=only)
    parser.add_argument(
        "--busy", type=int, default=4, metavar="LOOPS", help="in the second half of a round (%(default)s)"
    )
    parser.add_argument("--arrangements", action="store_true", help="also compare this project's threads and spinning")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables there too, as docs/benchmarks.md")
    parser.add_argument("--verbose", action="store_true", help="show what the engines write to standard error")
    arguments = parser.parse_args()
    convert(arguments)
    load = os.getloadavg()[1]  # before the busy loops
    results = measure(arguments)
    where = f"{host.cpu_name()}, {arguments.threads} threads, {arguments.rounds} rounds of 20 photos"
    when = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    engines = [result for result in results if result.name in ENGINES]
    text = markdown(engines, truth(Path(arguments.photos)), OURS, REFERENCE, f"{where}, {when}. {disturbance(load)}")
    print(text)
    if arguments.arrangements:
        print(arrangements([results[0], *(result for result in results if result.name in ARRANGEMENTS)]))
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
