"""Sets how long OpenMP's and OpenBLAS's threads spin while they wait, before a library with either is loaded."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

#: Rounds of GNU's OpenMP: some ten microseconds, as long as the gaps between the operators of an inference. Its own
#: default is 300,000, which takes processor time from other programs (docs/performance.md has what was measured).
SPIN_COUNT = "1000"
#: Of OpenBLAS, which NumPy and OpenCV each bring: as a power of two, ticks of the processor's counter. By default its
#: threads spin for up to 0.1 s (x86) once they are started, although the daemon gives them nothing to do.
TIMEOUT = "10"


def spin_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set GOMP_SPINCOUNT for this process and its children, unless the user has chosen how threads wait.

    libgomp reads it once, when it is loaded: with torch, or on Debian already with OpenCV. OpenBLAS reads its own,
    OPENBLAS_THREAD_TIMEOUT, when NumPy is imported.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    environment.setdefault("OPENBLAS_THREAD_TIMEOUT", TIMEOUT)
