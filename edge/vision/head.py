"""The head of a network: its last linear layer and the softmax, in floats. NumPy alone computes it.

The head is apart from the trunk, so that other classes need another head and no requantization.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np

from edge.errors import BundleError
from edge.events import Probabilities
from edge.vision.engines.engine import Floats

MAX_BYTES = 256 << 20  # of the unpacked arrays


@dataclass(frozen=True)
class Head:
    """softmax((weight · features + bias) / temperature)."""

    weight: Floats  # (classes, features)
    bias: Floats  # (classes,)
    temperature: float = 1.0

    @property
    def classes(self) -> int:
        """How many probabilities come out."""
        return len(self.bias)

    def probabilities(self, features: Floats) -> Probabilities:
        """(…, classes) float32 of (…, features).

        Without BLAS, whose threads would wait for the next product on processors that the engine needs.
        """
        logits = np.einsum("cf,...f->...c", self.weight, features) + self.bias
        logits = (logits - logits.max(-1, keepdims=True)) / np.float32(self.temperature)
        powers = np.exp(logits, dtype=np.float32)
        return np.asarray(powers / powers.sum(-1, keepdims=True), np.float32)

    def to_bytes(self) -> bytes:
        """The content of `head.npz`."""
        file = io.BytesIO()
        np.savez(file, weight=self.weight, bias=self.bias, temperature=np.float32(self.temperature))
        return file.getvalue()


def read_head(content: bytes, features: int) -> Head:
    """The head that `content` holds, for a trunk of that many features.

    Raises:
        BundleError: it is damaged, or does not fit the trunk.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            size = sum(member.file_size for member in file.infolist())
        if size > MAX_BYTES:
            raise BundleError(f"The head has more than {MAX_BYTES >> 20} MB; export the bundle again.")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            # A member that is no array would be returned as bytes.
            weight, bias, temperature = (np.asarray(arrays[name]) for name in ("weight", "bias", "temperature"))
    except BundleError:
        raise
    except Exception as error:  # what numpy, zipfile and tokenize raise for damaged files has no other class in common
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BundleError(f"The bundle's head cannot be read ({reason:.120}); export the bundle again.") from error
    sound = (
        all(array.dtype == np.float32 and np.isfinite(array).all() for array in (weight, bias, temperature))
        and (weight.shape, temperature.shape) == ((*bias.shape, features), ())
        and bias.ndim == 1
        and len(bias) > 0
        and temperature > 0
    )
    if not sound:
        raise BundleError("The bundle's head does not fit its trunk; export the bundle again.")
    return Head(np.ascontiguousarray(weight), bias, float(temperature))
