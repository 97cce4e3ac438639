"""Busy loops compete for the processors, and none outlives the benchmark."""

import os
import subprocess
import sys
import time
from pathlib import Path

from edge.workshop.bench.busy_loops import busy_loops
from tests.daemon_process import CHECKOUT

KILLED = """
import os, signal
from pathlib import Path
from edge.workshop.bench.busy_loops import busy_loops
with busy_loops(2):
    print(*Path(f"/proc/self/task/{os.getpid()}/children").read_text().split(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()


def test_the_loops_run_while_something_is_measured_and_end_with_it() -> None:
    before = set(children())
    with busy_loops(2):
        loops = set(children()) - before
        assert len(loops) == 2
    assert not loops & set(children())


def test_the_loops_of_a_benchmark_that_is_killed_end_too() -> None:
    command = [sys.executable, "-c", KILLED]
    killed = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT, timeout=60)
    loops = killed.stdout.split()
    assert len(loops) == 2, killed.stderr
    until = time.monotonic() + 30
    while any(_runs(loop) for loop in loops):
        assert time.monotonic() < until
        time.sleep(0.05)


def _runs(process: str) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except FileNotFoundError:
        return False
