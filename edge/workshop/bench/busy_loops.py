"""Child processes that compute in a loop, as other programs on a box do, for measurements beside them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from edge.board.child_process import fresh_python

# A loop ends with its parent, so that a benchmark that is killed leaves none behind.
_LOOP = """\
import os
parent = os.getppid()
print(flush=True)
while os.getppid() == parent:
    for _ in range(100_000):
        pass"""


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Meanwhile `count` loops run on the processors that this process may use."""
    with ExitStack() as stack:
        loops = []
        for _ in range(count):
            loop = stack.enter_context(subprocess.Popen(fresh_python(_LOOP), stdout=subprocess.PIPE))
            stack.callback(loop.kill)
            loops.append(loop)
        for loop in loops:
            assert loop.stdout is not None
            loop.stdout.readline()
        yield
