"""The interface of a model that the daemon's stages use; `vision.classifier.Classifier` implements it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from edge.events import Probabilities
from edge.frames import Pixels

_Buffer = TypeVar("_Buffer")


class Model(Protocol[_Buffer]):
    """Classifies the content of its input buffers; a buffer works only with the model that made it."""

    name: str

    @property
    def labels(self) -> Sequence[str]:
        """The name of each class."""
        ...

    def join_thread(self) -> None:
        """Prepare the calling thread, before its first inference; no other thread may be inferring meanwhile."""
        ...

    def new_input(self) -> _Buffer:
        """A buffer for one frame's input."""
        ...

    def prepare(self, pixels: Pixels, into: _Buffer) -> None:
        """Resize `pixels`, (height, width, 3) uint8 RGB, into the buffer."""
        ...

    def infer(self, buffer: _Buffer) -> Probabilities:
        """Probabilities, (classes,) float32, of what the buffer holds."""
        ...
