"""A model that torch has loaded, on the processor or on a GPU; takes and returns NumPy arrays."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from edge.errors import BundleError
from edge.frames import Pixels
from edge.printable import escaped
from edge.vision.engines.engine import Files, Floats
from edge.vision.manifest import Manifest
from edge.vision.torch_compat import known_deprecations, load_script

_WARM_UP = 2  # TorchScript's profiling executor optimizes during the first two calls


class TorchSession:
    """Loads and warms up a model; implements `Session`.

    Args:
        manifest: of the bundle.
        files: its files, by role.
        takes_many: whether the graph takes batches.
        place: torch's name of the device that holds it, cpu or cuda.

    Raises:
        BundleError: torch cannot load or run it.
    """

    def __init__(self, manifest: Manifest, files: Files, *, takes_many: bool = False, place: str = "cpu") -> None:
        self.takes_many = takes_many
        self._side, self._place = manifest.input.side, place
        # TensorRT's execution context serves one thread at a time, and `classify` infers in several.
        self._turn: AbstractContextManager[object] = threading.Lock() if manifest.on_gpu else nullcontext()
        action = "load"
        try:
            self._model = load_script(files["model"] if manifest.features is None else files["trunk"], place)
            action = "run"
            with known_deprecations():
                for _ in range(_WARM_UP):
                    answer = self.infer(np.zeros((1, self._side, self._side, 3), np.uint8))
        except Exception as error:  # a script may raise, or return, anything: torch.jit.Error is no RuntimeError
            raise BundleError(
                f"torch {torch.__version__} cannot {action} the bundle's model ({_reason(error):.200}); export it again"
                " here."
            ) from error
        expected = (manifest.features or len(answer),) if answer.ndim else None
        if answer.dtype != np.float32 or answer.shape != expected:
            raise BundleError(
                "The bundle's model is not the one that its manifest describes (it gives"
                f" {answer.dtype} {answer.shape} for a photo instead of float32 ({manifest.features or 'classes'},));"
                " export it again."
            )

    @property
    def threads(self) -> int:
        """torch's, which belongs to the whole process."""
        return torch.get_num_threads()

    def new_buffer(self) -> Pixels:
        """See `Session`; memory for a GPU is pinned, so that it can be copied there by DMA."""
        shape = (1, self._side, self._side, 3)
        if self._place == "cuda":
            pinned: Pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
            return pinned
        return np.empty(shape, np.uint8)

    def infer(self, pixels: Pixels) -> Floats:
        """See `Session`."""
        with self._turn, torch.inference_mode():
            # From pinned memory one DMA transfer; on the CPU no copy.
            moved = torch.from_numpy(pixels).to(self._place, non_blocking=True)
            answer: Floats = self._model(moved)[0].cpu().numpy()
        return answer

    def infer_many(self, pixels: Sequence[Pixels]) -> Floats:
        """See `Session`: one batch if the graph takes it, else one by one."""
        if not self.takes_many:
            return np.stack([self.infer(one) for one in pixels])
        with torch.inference_mode():
            answers: Floats = self._model(torch.from_numpy(np.concatenate(pixels))).numpy()
        return answers

    def join_thread(self) -> None:
        """See `Session`.

        At a thread's first operation torch sets its thread count. Some versions then free the pool that XNNPACK uses,
        even while it is in use, and make another (caffe2/utils/threadpool/pthreadpool-cpp.cc).
        """
        torch.get_num_threads()


def _reason(error: Exception) -> str:
    """What TorchScript's error is about: its last line, or the one before the Python lines of an operator of ours."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    marked = [line.removeprefix("RuntimeError: ") for line in lines if line.startswith("RuntimeError: ")]
    return escaped((marked or lines)[-1])
