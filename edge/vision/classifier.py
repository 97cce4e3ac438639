"""`Classifier` runs a bundle's model: pixels in, probabilities out. Its golden photo is checked at each start."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from edge.errors import BundleError, PhotoError
from edge.events import Prediction, Probabilities
from edge.frames import Pixels
from edge.photos.decode import decode_photo
from edge.settings.schema import ModelSettings
from edge.vision.bundle import Bundle
from edge.vision.engines import engine_of
from edge.vision.engines.engine import Floats
from edge.vision.head import read_head
from edge.vision.preprocess import InputBuffer, fill, new_buffer

GOLDEN_TOLERANCE = 3.0  # points of confidence


class Classifier:
    """Loads a bundle's model, warms it up and checks its answer to the golden photo.

    Args:
        bundle: as `load_bundle` returned it.
        settings: the `[model]` section.

    Raises:
        BundleError: this machine cannot run the bundle, or it answers the golden photo wrongly.
    """

    def __init__(self, bundle: Bundle, settings: ModelSettings) -> None:
        manifest = bundle.manifest
        self.name = bundle.name
        self.labels = bundle.labels
        self._contract = manifest.input
        _refuse_other_device(bundle, settings)
        engine = engine_of(manifest)
        engine.check(manifest)
        self._head = None if manifest.features is None else read_head(bundle.files["head"], manifest.features)
        self._session = engine.load(manifest, bundle.files, settings.threads or len(os.sched_getaffinity(0)))
        #: Whether `infer_all` runs several buffers as one batch.
        self.takes_many = self._session.takes_many
        self._buffer = self.new_input()
        self._check_golden(bundle)

    @property
    def threads(self) -> int:
        """How many threads compute one inference."""
        return self._session.threads

    def join_thread(self) -> None:
        """Prepare the calling thread, before its first inference; no other thread may be inferring meanwhile."""
        self._session.join_thread()

    def new_input(self) -> InputBuffer:
        """A padded buffer for `prepare` and `infer`; stages that run at the same time need one each."""
        return new_buffer(self._contract, self._session.new_buffer())

    def prepare(self, pixels: Pixels, into: InputBuffer) -> None:
        """Resize the centre of `pixels`, (height, width, 3) uint8 RGB, into the buffer."""
        fill(into, pixels, self._contract)

    def infer(self, buffer: InputBuffer) -> Probabilities:
        """Probabilities, (classes,) float32, of what the buffer holds; later calls do not change the array."""
        return self._probabilities(self._session.infer(buffer.pixels))

    def infer_all(self, buffers: Sequence[InputBuffer]) -> Probabilities:
        """Probabilities, (buffers, classes) float32, of all the buffers: one batch if `takes_many`, else one by one."""
        return self._probabilities(self._session.infer_many([buffer.pixels for buffer in buffers]))

    def features(self, buffers: Sequence[InputBuffer]) -> Floats:
        """Features, (buffers, features) float32, of all the buffers: what a head for other classes is fitted to.

        Raises:
            BundleError: the bundle is of schema 1, whose model gives probabilities only.
        """
        if self._head is None:
            raise BundleError(
                f"{self.name} was made by an older version, and its model gives no features; export it again."
            )
        return self._session.infer_many([buffer.pixels for buffer in buffers])

    def predict(self, pixels: Pixels) -> Prediction:
        """`prepare` and `infer`, timed, in the classifier's own buffer; for one thread at a time."""
        start = time.perf_counter()
        self.prepare(pixels, self._buffer)
        prepared = time.perf_counter()
        probabilities = self.infer(self._buffer)
        end = time.perf_counter()
        return Prediction(
            probabilities,
            {"preprocess": round((prepared - start) * 1e3, 2), "inference": round((end - prepared) * 1e3, 2)},
        )

    def _probabilities(self, answer: Floats) -> Probabilities:
        """Of what the session gave: features, or the probabilities of a bundle without a head of its own."""
        return answer if self._head is None else self._head.probabilities(answer)

    def _check_golden(self, bundle: Bundle) -> None:
        try:
            pixels = decode_photo(bundle.files["golden"], bundle.golden.name)
        except PhotoError as error:
            raise BundleError(f"{bundle.name} has no sound golden photo ({error}); export it again.") from error
        probabilities = self.predict(pixels).probabilities
        if len(probabilities) != len(self.labels):
            raise BundleError(
                f"{bundle.name} has {len(self.labels)} labels for {len(probabilities)} classes; export it again."
            )
        expected = bundle.manifest.golden
        top1 = int(probabilities.argmax())
        worst = max(abs(float(probabilities[c.index]) * 100 - c.confidence) for c in expected)
        if top1 != expected[0].index or not worst <= GOLDEN_TOLERANCE:
            raise BundleError(
                f"{bundle.name} answers its golden photo with {self.labels[top1]} and confidences up to {worst:.1f}"
                f" points off instead of {self.labels[expected[0].index]}; export it again on this machine."
            )


def _refuse_other_device(bundle: Bundle, settings: ModelSettings) -> None:
    """Refuse a bundle for another device than `[model] device` allows."""
    if bundle.manifest.on_gpu and settings.device == "cpu":
        raise BundleError(f"{bundle.name} runs on a GPU only; set model.device to auto, or export one for the CPU.")
    if not bundle.manifest.on_gpu and settings.device == "cuda":
        raise BundleError(
            f"{bundle.name} is INT8 for the CPU; set model.device to auto or cpu, or make one for the GPU with"
            " `edge-classifier export --target jetson`."
        )
