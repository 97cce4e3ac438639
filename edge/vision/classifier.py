"""`Classifier` runs a bundle's model: pixels in, probabilities out. Its golden photo is checked at each start."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from edge.errors import BundleError, PhotoError
from edge.events import Prediction, Probabilities
from edge.frames import Pixels
from edge.photos.decode import decode_photo
from edge.settings.schema import ModelSettings
from edge.vision.bundle import GOLDEN, Bundle
from edge.vision.device import OpenCuda, open_cuda, open_device
from edge.vision.preprocess import InputBuffer, fill, new_buffer
from edge.vision.torch_compat import known_deprecations, load_script

GOLDEN_TOLERANCE = 3.0  # points of confidence
_WARM_UP = 3  # TorchScript's profiling executor optimizes during the first two calls


class Classifier:
    """Loads a bundle's model, warms it up and checks its answer to the golden photo.

    torch's engine and thread count are global, so all classifiers of a process have to use the same.

    Args:
        bundle: as `load_bundle` returned it.
        settings: the `[model]` section.
        open_gpu: prepares the GPU, for a bundle that needs one.

    Raises:
        BundleError: this machine cannot run the bundle, or it answers the golden photo wrongly.
    """

    def __init__(self, bundle: Bundle, settings: ModelSettings, open_gpu: OpenCuda = open_cuda) -> None:
        self.name = bundle.name
        self.labels = bundle.labels
        self._contract = bundle.manifest.input
        #: Whether `infer_all` runs several buffers as one batch; qnnpack's graph has one photo's strides in it.
        self.takes_many = bundle.manifest.engine in ("onednn", "fbgemm")
        self._place = open_device(bundle, settings, open_gpu)
        # TensorRT's execution context serves one thread at a time, and `classify` infers in several.
        on_gpu = bundle.manifest.target == "jetson"
        self._turn: AbstractContextManager[object] = threading.Lock() if on_gpu else nullcontext()
        try:
            self._model = load_script(bundle.model_bytes, self._place)
        except RuntimeError as error:
            raise _torch_error("load", bundle, error) from error
        self._buffer = self.new_input()
        self._check_golden(bundle)

    def new_input(self) -> InputBuffer:
        """A padded buffer for `prepare` and `infer`; stages that run at the same time need one each."""
        return new_buffer(self._contract, pinned=self._place == "cuda")

    def prepare(self, pixels: Pixels, into: InputBuffer) -> None:
        """Resize the centre of `pixels`, (height, width, 3) uint8 RGB, into the buffer."""
        fill(into, pixels, self._contract)

    def infer(self, buffer: InputBuffer) -> Probabilities:
        """Probabilities, (classes,) float32, of what the buffer holds; later calls do not change the array."""
        with self._turn, torch.inference_mode():
            pixels = buffer.tensor.to(self._place, non_blocking=True)  # pinned: one DMA transfer; on the CPU no copy
            probabilities: Probabilities = self._model(pixels)[0].cpu().numpy()
        return probabilities

    def infer_all(self, buffers: Sequence[InputBuffer]) -> Probabilities:
        """Probabilities, (buffers, classes) float32, of all the buffers: one batch if `takes_many`, else one by one."""
        if not self.takes_many:
            return np.stack([self.infer(buffer) for buffer in buffers])
        with torch.inference_mode():
            probabilities: Probabilities = self._model(torch.cat([buffer.tensor for buffer in buffers])).numpy()
        return probabilities

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

    def _check_golden(self, bundle: Bundle) -> None:
        try:
            pixels = decode_photo(bundle.golden_bytes, GOLDEN)
        except PhotoError as error:
            raise BundleError(f"{bundle.name} has no sound golden photo ({error}); export it again.") from error
        try:
            with known_deprecations():
                for _ in range(_WARM_UP):
                    probabilities = self.predict(pixels).probabilities
        except RuntimeError as error:
            raise _torch_error("run", bundle, error) from error
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


def _torch_error(action: str, bundle: Bundle, error: RuntimeError) -> BundleError:
    reason = str(error).strip().splitlines()[-1]
    return BundleError(
        f"torch {torch.__version__} cannot {action} {bundle.name} ({reason:.200}); export it again here."
    )
