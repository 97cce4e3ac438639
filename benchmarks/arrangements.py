"""Ways to run this project's model in two or more threads, which `peers.py --arrangements` compares.

torch computes with OpenMP. GNU's OpenMP keeps a pool for each thread that has computed, and its threads spin at the end
of an operator only if all pools together have no more threads than there are processors. So it matters which thread
loaded the model, and how long the threads spin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, TypeVar

Loader = Literal["ended", "same", "other"]
_Loaded = TypeVar("_Loaded")


@dataclass(frozen=True)
class Arrangement:
    """Where a model is loaded, and what the environment has before OpenMP is loaded.

    Args:
        loader: the thread that loads and warms up: one that ends before inference starts, the one that infers, or
            another one that stays.
        environment: is added to the process's environment.
    """

    loader: Loader = "ended"
    environment: Mapping[str, str] = field(default_factory=dict)

    def load(self, make: Callable[[], _Loaded]) -> _Loaded:
        """Call `make` where this arrangement loads; the main thread calls this, and does not infer unless "same"."""
        if self.loader != "ended":
            return make()
        with ThreadPoolExecutor(1, "load") as thread:
            return thread.submit(make).result()


#: The one that this project and the other engines are compared in: as the daemon does.
AS_THE_DAEMON = Arrangement()
_SPINS = {"GOMP_SPINCOUNT": "300000"}  # OpenMP's own default, 3 ms by its authors' estimate
ARRANGEMENTS = {
    "two pools, OpenMP's spinning": Arrangement("other", _SPINS),
    "one pool, OpenMP's spinning": Arrangement("ended", _SPINS),
    "one pool, loaded in the thread that infers": Arrangement("same", _SPINS),
    "one pool, GOMP_SPINCOUNT=100": Arrangement("ended", {"GOMP_SPINCOUNT": "100"}),
    "one pool, GOMP_SPINCOUNT=1000": Arrangement("ended", {"GOMP_SPINCOUNT": "1000"}),
    "one pool, GOMP_SPINCOUNT=10000": Arrangement("ended", {"GOMP_SPINCOUNT": "10000"}),
    "one pool, OMP_WAIT_POLICY=PASSIVE": Arrangement("ended", {"OMP_WAIT_POLICY": "PASSIVE"}),
}
