"""Loads the model, and replaces it while frames keep coming: `models use` and `models rollback` end here."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.board import host
from edge.daemon.pipeline import Pipeline
from edge.errors import BundleError, EdgeClassifierError
from edge.settings.schema import ModelSettings
from edge.status.snapshot import Status
from edge.vision.bundle import Bundle, load_bundle
from edge.vision.engines import engine_of
from edge.vision.installed import Installed, switchable_bundles

if TYPE_CHECKING:
    from edge.vision.classifier import Classifier
    from edge.vision.manifest import Manifest

logger = logging.getLogger("edge.daemon.model_switch")

# What a second model takes: the files' bytes, the unpacked weights, the packed weights, and the activations.
FILES_IN_MEMORY = 4
ACTIVATIONS_BYTES = 32 << 20


class ModelSwitch:
    """Loads the first model and every later one. At most one thread at a time may call `use` or `rollback`.

    Args:
        settings: the `[model]` section.
        status: gets the gauge `model`.
        make_classifier: verifies a bundle and loads its model; raises BundleError.
        free_bytes: returns the free memory, or None where that is not known.
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
        self._running: tuple[Manifest, Classifier]  # from `load` on
        #: The running model's name, manifest and number of classes, as JSON types; replaced as a whole.
        self.description: Mapping[str, Any] = {}
        #: Its name and its classes, also replaced as a whole.
        self.labels: tuple[str, Sequence[str]] = ("", ())

    def load(self) -> Classifier:
        """The classifier of the bundle that the settings name.

        Raises:
            BundleError: the bundle cannot be used.
        """
        classifier = self._load(load_bundle(self._settings.bundle))
        host.return_freed_memory()  # the bundle's files, and what its engine needed to read them
        return classifier

    def _load(self, bundle: Bundle) -> Classifier:
        classifier = _apart(bundle, lambda: self._make_classifier(bundle))
        self._describe(bundle, classifier)
        return classifier

    def use(self, name: str, pipeline: Pipeline[Any]) -> str:
        """Replace the running bundle by an installed one. After any error the running bundle stays.

        Returns:
            The name of the bundle that runs now.

        Raises:
            BundleError: the bundle is not installed, is damaged, needs another engine, or does not fit into memory
                together with the running one.
            ConfigError: `model.bundle` names a fixed bundle, not the link `current`.
            StateError: the link `current` cannot be switched.
        """
        installed = switchable_bundles(self._settings)
        home = installed.find(name)
        if name == self.description["name"]:
            installed.switch(name)
        else:
            self._swap(home, installed, pipeline)
            host.return_freed_memory()
        return name

    def rollback(self, pipeline: Pipeline[Any]) -> str:
        """Replace the running bundle by the one that was in use before it; raises what `use` raises."""
        return self.use(switchable_bundles(self._settings).before_current(), pipeline)

    def _swap(self, home: Path, installed: Installed, pipeline: Pipeline[Any]) -> None:
        self._refuse_without_room(home)
        bundle = load_bundle(home)
        manifest, running = self._running
        engine = engine_of(bundle.manifest)
        engine.check_beside(manifest, bundle.manifest)
        # The daemon has run models of another engine so far. What is not installed is reported when it is loaded.
        if engine.LIBRARY not in sys.modules and importlib.util.find_spec(engine.LIBRARY) is not None:
            self._refuse_without_room(home, engine.LIBRARY_BYTES)
        before = self.description["name"]
        classifier = _apart(bundle, lambda: self._load_beside(bundle, running, pipeline))
        try:
            pipeline.swap(classifier, lambda: installed.switch(bundle.name))
        except (RuntimeError, MemoryError) as error:  # no memory for the buffers
            raise _cannot_be_made(bundle, error) from error
        self._describe(bundle, classifier)
        logger.info("%s runs in place of %s.", bundle.name, before)

    def _load_beside(self, bundle: Bundle, running: Classifier, pipeline: Pipeline[Any]) -> Classifier:
        with pipeline.inferring:
            running.join_thread()  # the new model's engine may be the running one's
        return self._make_classifier(bundle)

    def _make_classifier(self, bundle: Bundle) -> Classifier:
        try:
            return self._make(bundle, self._settings)
        except EdgeClassifierError:
            raise
        except Exception as error:  # a model is code, and may raise anything; the daemon goes on
            raise _cannot_be_made(bundle, error) from error

    def _refuse_without_room(self, home: Path, library_bytes: int = 0) -> None:
        try:
            files = sum(file.stat().st_size for file in home.iterdir())
        except OSError:
            return  # load_bundle will report it
        needed = files * FILES_IN_MEMORY + ACTIVATIONS_BYTES + library_bytes
        free = self._free_bytes()
        if free is not None and free < needed:
            raise BundleError(
                f"{home.name} needs {needed >> 20} MB in addition to the running model, and {free >> 20} MB are free;"
                f" stop the daemon, run `edge-classifier models use {home.name}`, and start it again."
            )

    def _describe(self, bundle: Bundle, classifier: Classifier) -> None:
        self._running = bundle.manifest, classifier
        manifest = bundle.manifest.model_dump(mode="json", by_alias=True)
        self.description = {"name": bundle.name, **manifest, "classes": len(bundle.labels)}
        self.labels = (bundle.name, bundle.labels)
        self._status.gauge(model=bundle.name)


def _apart(bundle: Bundle, load: Callable[[], Classifier]) -> Classifier:
    """Load in a thread that ends afterwards, also at the start.

    An engine may keep a pool of threads for each thread that computes, until that thread ends. Two pools of OpenMP
    together have more threads than there are processors, and it then puts waiting threads to sleep at once: with torch
    an inference takes a quarter longer (docs/performance.md).
    """
    with ThreadPoolExecutor(1, "model") as loader:
        try:
            return loader.submit(load).result()
        except RuntimeError as error:  # no thread could be started
            raise _cannot_be_made(bundle, error) from error


def _cannot_be_made(bundle: Bundle, error: Exception) -> BundleError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return BundleError(f"{bundle.name} cannot be run here ({reason:.200}); export it again, or free some memory.")
