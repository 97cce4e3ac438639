"""The model that runs, and how another takes its place while frames keep coming."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edge.board import host
from edge.errors import BundleError
from edge.settings.schema import ModelSettings
from edge.status.snapshot import Status
from edge.vision.bundle import MODEL, Bundle, load_bundle
from edge.vision.installed import Installed, switchable_bundles

if TYPE_CHECKING:
    from edge.vision.classifier import Classifier

logger = logging.getLogger("edge.vision.model")

# Beside the running one: the file's bytes, the unpacked weights, the packed ones, and the activations.
FILES_IN_MEMORY = 4
ACTIVATIONS_BYTES = 32 << 20


class Swaps(Protocol):
    """What is needed of `Pipeline`."""

    @property
    def inferring(self) -> AbstractContextManager[Any]:
        """Whoever holds it is between two inferences."""
        ...

    def swap(self, model: Classifier, commit: Callable[[], object] = ...) -> None:
        """Make all that `model` needs, call `commit`, and from the next frame on `model` answers.

        What raises up to the end of `commit` leaves everything as it was.
        """
        ...


class ModelSwitch:
    """Loads the first model and every one that takes its place; one thread at a time asks for another.

    Args:
        settings: the `[model]` section.
        status: gets the gauge `model`.
        make_classifier: verifies a bundle and makes it ready; raises BundleError.
        free_bytes: the memory that is left, None where that is not known.
    """

    def __init__(
        self,
        settings: ModelSettings,
        status: Status,
        make_classifier: Callable[[Bundle, ModelSettings], Classifier],
        free_bytes: Callable[[], int | None] = host.memory_free_bytes,
    ) -> None:
        self._settings, self._status, self._make = settings, status, make_classifier
        self._free_bytes = free_bytes
        #: The name, the manifest and the number of classes, as JSON types; replaced as a whole.
        self.description: Mapping[str, Any] = {}

    def load(self) -> Classifier:
        """The bundle of the settings, ready to infer.

        Raises:
            BundleError: it cannot be used.
        """
        bundle = load_bundle(self._settings.bundle)
        classifier = self._made(bundle)
        self._describe(bundle)
        return classifier

    def use(self, name: str, pipeline: Swaps) -> str:
        """Put an installed bundle in the place of the running one, which stays unless everything is right.

        Returns:
            Its name.

        Raises:
            BundleError: it is not installed, not sound, or not for the engine that runs; or there is no room for two.
            ConfigError: `model.bundle` names one bundle for good.
            StateError: the link `current` cannot be switched.
        """
        installed = switchable_bundles(self._settings)
        home = installed.find(name)
        if name == self.description["name"]:
            installed.switch(name)
        else:
            self._swap(home, installed, pipeline)
        return name

    def rollback(self, pipeline: Swaps) -> str:
        """Go back to the bundle that was in use before; as `use`."""
        previous = switchable_bundles(self._settings).previous
        if previous is None:
            raise BundleError("There is no model before this one; `edge-classifier models list` tells which there are.")
        return self.use(previous, pipeline)

    def _swap(self, home: Path, installed: Installed, pipeline: Swaps) -> None:
        self._refuse_without_room(home)
        bundle = load_bundle(home)
        if bundle.manifest.engine != self.description["engine"]:
            raise BundleError(
                f"{bundle.name} needs the engine {bundle.manifest.engine}, and {self.description['engine']} runs, which"
                " is the whole process's; stop the daemon, run `edge-classifier models use`, and start it again."
            )
        before = self.description["name"]
        # In a thread that ends with it, and with it the threads that torch keeps for each thread that computes.
        with ThreadPoolExecutor(1, "model") as loader:
            try:
                classifier = loader.submit(self._verified, bundle, pipeline).result()
            except RuntimeError as error:  # there can be no thread more
                raise _cannot_be_made(bundle, error) from error
        try:
            pipeline.swap(classifier, lambda: installed.switch(bundle.name))
        except (RuntimeError, MemoryError) as error:  # no room for its buffers
            raise _cannot_be_made(bundle, error) from error
        self._describe(bundle)
        logger.info("%s runs in place of %s.", bundle.name, before)

    def _verified(self, bundle: Bundle, pipeline: Swaps) -> Classifier:
        from edge.vision.engine import join_threads  # imports torch, which the running model has done already

        with pipeline.inferring:
            join_threads()
        return self._made(bundle)

    def _made(self, bundle: Bundle) -> Classifier:
        try:
            return self._make(bundle, self._settings)
        # Of torch, whose every complaint is a RuntimeError, and of a model that returns anything but a tensor.
        except (RuntimeError, MemoryError, AttributeError, TypeError, ValueError, LookupError) as error:
            raise _cannot_be_made(bundle, error) from error

    def _refuse_without_room(self, home: Path) -> None:
        try:
            needed = (home / MODEL).stat().st_size * FILES_IN_MEMORY + ACTIVATIONS_BYTES
        except OSError:
            return  # load_bundle says what is wrong
        free = self._free_bytes()
        if free is not None and free < needed:
            raise BundleError(
                f"{home.name} needs {needed >> 20} MB beside the running model, and {free >> 20} MB are free; stop the"
                f" daemon, run `edge-classifier models use {home.name}`, and start it again."
            )

    def _describe(self, bundle: Bundle) -> None:
        manifest = bundle.manifest.model_dump(mode="json", by_alias=True)
        self.description = {"name": bundle.name, **manifest, "classes": len(bundle.labels)}
        self._status.gauge(model=bundle.name)


def _cannot_be_made(bundle: Bundle, error: Exception) -> BundleError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return BundleError(f"{bundle.name} cannot be run here ({reason:.200}); export it again, or free some memory.")
