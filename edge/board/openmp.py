"""Sets how long OpenMP's threads spin while they wait, before a library with OpenMP is loaded."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

#: Rounds of GNU's OpenMP: some ten microseconds, as long as the gaps between the operators of an inference. Its own
#: default is 300,000, which takes processor time from other programs (docs/performance.md has what was measured).
SPIN_COUNT = "1000"


def spin_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set GOMP_SPINCOUNT for this process and its children, unless the user has chosen how threads wait.

    libgomp reads it once, when it is loaded: with torch, or on Debian already with OpenCV.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
