"""What the stages need of a model; `vision.Classifier` is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from edge.events import Probabilities
from edge.frames import Pixels

_Buffer = TypeVar("_Buffer")


class Model(Protocol[_Buffer]):
    """Answers what its input buffers hold; a buffer fits the model that made it and no other."""

    name: str

    @property
    def labels(self) -> Sequence[str]:
        """What each class is called."""
        ...

    def new_input(self) -> _Buffer:
        """A buffer for one frame's input."""
        ...

    def prepare(self, pixels: Pixels, into: _Buffer) -> None:
        """Resize (height, width, 3) uint8 RGB pixels into the buffer."""
        ...

    def infer(self, buffer: _Buffer) -> Probabilities:
        """(classes,) float32 probabilities of what is in the buffer."""
        ...
