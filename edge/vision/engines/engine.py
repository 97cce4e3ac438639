"""The interface of an engine, which each module in this folder implements, and of a loaded model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge.frames import Pixels
from edge.vision.manifest import Manifest

Floats = npt.NDArray[np.float32]
Files = Mapping[str, bytes]  # by role: `trunk`, or `model` of a bundle of schema 1


class Session(Protocol):
    """A loaded model. Several threads may infer at once."""

    @property
    def takes_many(self) -> bool:
        """Whether `infer_many` is faster than as many calls of `infer`."""
        ...

    @property
    def threads(self) -> int:
        """How many threads compute one inference."""
        ...

    def new_buffer(self) -> Pixels:
        """(1, side, side, 3) uint8 with any content, in memory that suits the engine."""
        ...

    def infer(self, pixels: Pixels) -> Floats:
        """What the model gives for an array of `new_buffer`: (features,) float32, or (classes,) of schema 1.

        Later calls do not change the array.
        """
        ...

    def infer_many(self, pixels: Sequence[Pixels]) -> Floats:
        """`infer` of each, stacked."""
        ...

    def join_thread(self) -> None:
        """Prepare the calling thread, before its first inference; no other thread may be inferring meanwhile."""
        ...


class Engine(Protocol):
    """A module that runs one kind of model. Importing it imports no library of the engine's."""

    @property
    def PLATFORM(self) -> str:  # noqa: N802 (a constant of the module)
        """The platform's name in KServe's protocol."""
        ...

    @property
    def LIBRARY(self) -> str:  # noqa: N802
        """The library's name, for `doctor`; that of its Python module."""
        ...

    @property
    def LIBRARY_BYTES(self) -> int:  # noqa: N802
        """The memory that importing the library takes, about."""
        ...

    @property
    def REMEDY(self) -> str:  # noqa: N802
        """What helps where `self_check` fails, as a sentence."""
        ...

    def check(self, manifest: Manifest) -> None:
        """Refuse a bundle that this machine cannot run, as far as that is known without importing the library.

        Raises:
            BundleError: it cannot.
        """
        ...

    def load(self, manifest: Manifest, files: Files, threads: int) -> Session:
        """Load a model. `threads` is at least 1.

        Raises:
            BundleError: the library is missing or refuses the model.
        """
        ...

    def describe(self) -> str:
        """The library's name, version and build; imports it."""
        ...

    def self_check(self) -> int:
        """Print one sentence about the library on this machine; in a process of its own, because it may crash.

        Returns:
            0: it computes INT8; 2: it does, but much slower than another build would; 1: it does not.
        """
        ...

    def check_beside(self, running: Manifest, wanted: Manifest) -> None:
        """Refuse a bundle, of this engine, that cannot run in a process where another one runs.

        Raises:
            BundleError: it cannot.
        """
        ...
