"""The engines that compute a bundle's network; each is one module, which imports its library only to load a model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from edge.errors import BundleError

if TYPE_CHECKING:  # it imports numpy and pydantic, which `int8_check` must not need
    from edge.vision.engines.engine import Engine
    from edge.vision.manifest import Manifest

ENGINES = ("torchscript", "onnxruntime", "cuda")


def engine_of(manifest: Manifest) -> Engine:
    """The module that runs a bundle; errors as of `engine_named`."""
    return engine_named(manifest.engine.name)


def engine_named(name: str) -> Engine:
    """The module of an engine.

    Raises:
        BundleError: this version of the program has no such engine.
    """
    if name not in ENGINES:
        raise BundleError(
            f"The bundle needs the engine {name}, which this version of edge-classifier does not have; upgrade it, or"
            " export the bundle again here."
        )
    return cast("Engine", importlib.import_module(f"{__name__}.{name}"))
