"""Reads FP32 weights from a file: a state dict, its origin, and the catalogue of known files."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from edge.errors import WeightsError
from edge.vision.manifest import Origin
from edge.workshop.export.network.batch_norm_folding import StateDict

CATALOGUE = Path(__file__).parents[1] / "weights.json"

# What torch.load raises for damaged files; its restricted unpickler checks with asserts and indices.
_DAMAGED = (
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    LookupError,
    AssertionError,
    AttributeError,
    TypeError,
    struct.error,
)


_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
)  # training loops save it under one of these keys
_PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel's, torch.compile's and Lightning's
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, *_INTEGERS)


class Entry(BaseModel):
    """Known weights, and where to get them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    architecture: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    license: str
    top1: float | None = None  # percent on ImageNet, as published
    url: str = ""
    package: str = ""  # an importable package that holds the file in `models/`


@dataclass(frozen=True)
class Weights:
    """A state dict and where it came from."""

    architecture: str
    state: StateDict
    origin: Origin


def catalogue() -> tuple[Entry, ...]:
    """The known weights, the default first."""
    return tuple(TypeAdapter(list[Entry]).validate_json(CATALOGUE.read_bytes()))


def read_weights(file: Path, architecture: str, entries: tuple[Entry, ...] | None = None) -> Weights:
    """Weights from a file; no code in it is run.

    Raises:
        WeightsError: it cannot be read, is not a state dict, or is a known file with other contents.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror or error}; name weights with --weights.") from error
    digest = hashlib.sha256(content).hexdigest()
    entries = catalogue() if entries is None else entries
    known = next((e for e in entries if digest == e.sha256 or file.name == e.file), None)
    if known is not None and digest != known.sha256:
        raise WeightsError(f"{file} is not the {known.file} that we know: truncated or changed; fetch it again.")
    origin = Origin(
        source=file.name,
        sha256=digest,
        license=known.license if known else "unknown",
        top1=known.top1 if known else None,
    )
    return Weights(known.architecture if known else architecture, _state_dict(file, content), origin)


def _state_dict(file: Path, content: bytes) -> StateDict:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about deprecated types and protocols; unusable values are refused below
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        raise WeightsError(f"{file} does not hold PyTorch weights; give a state dict saved by torch.save.") from error
    if isinstance(loaded, dict):
        loaded = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), dict)), loaded)
    if (
        not isinstance(loaded, dict)
        or not loaded
        or not all(isinstance(k, str) and _is_dense(v) for k, v in loaded.items())
    ):
        raise WeightsError(f"{file} is not a state dict; save the model's state_dict() with torch.save.")
    if other := next((k for k, v in loaded.items() if v.dtype not in _TYPES), None):
        kind = str(loaded[other].dtype).removeprefix("torch.")
        raise WeightsError(
            f"{file} holds {other} as {kind}, which is no plain number; save it as float32 or another float of 16 to 64"
            " bits."
        )
    if not all(torch.isfinite(v).all() for v in loaded.values() if v.is_floating_point()):
        raise WeightsError(f"{file} holds values that are not finite; the weights are broken, get them again.")
    # Detached, because tracing cannot make constants of parameters.
    state = {key: value.detach() for key, value in loaded.items()}
    while prefix := next((prefix for prefix in _PREFIXES if all(key.startswith(prefix) for key in state)), ""):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _is_dense(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta
