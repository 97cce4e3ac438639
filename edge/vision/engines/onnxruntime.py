"""The engine `onnxruntime`: INT8 on the processor with ONNX Runtime, in a process that never imports torch."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from edge.board.processor import cpu_flags, host_target
from edge.errors import BundleError
from edge.frames import Pixels
from edge.vision.engines.engine import Files, Floats, Session
from edge.vision.engines.processor_check import refuse_other_processor
from edge.vision.manifest import Manifest

PROVIDERS = ["CPUExecutionProvider"]  # PyPI's build has another one too, which computes in a cloud
SETTINGS = {
    # With threads that spin between two operations ResNet-18 takes a seventh less time on an idle machine, but beside
    # other work twice the time, and they keep the processors busy between two frames too.
    "session.intra_op.allow_spinning": "0",
    "session.load_model_format": "ONNX",  # not recognized by its content: there is a format of ONNX Runtime's own too
}
DEBIANS = "/usr/lib/python3/dist-packages/"  # where Debian's packages are
_one_at_a_time = threading.Lock()  # where standard error goes belongs to the whole process
LIBRARY = "onnxruntime"
LIBRARY_BYTES = 12 << 20
PIP = "pip install onnxruntime==1.22.1"  # from 1.29 on PyPI's builds report their use
PLATFORM = "onnxruntime_onnx"
REMEDY = "Install it again: sudo ./install.sh; or use a bundle of another engine."
ERRORS_ONLY = 3  # of its levels of severity; less serious lines are for developers


def check(manifest: Manifest) -> None:
    """See `Engine.check`: the instruction set, and VNNI for weights of full range."""
    refuse_other_processor(manifest, adds_pairs=host_target() == "x86_64")
    _refuse_unavailable()


def load(manifest: Manifest, files: Files, threads: int) -> Session:
    """See `Engine.load`."""
    _refuse_unavailable()
    return OnnxSession(manifest, files["model"] if manifest.features is None else files["trunk"], threads)


def describe() -> str:
    """See `Engine.describe`."""
    return f"ONNX Runtime {_library().__version__}"


def self_check() -> int:
    """See `Engine.self_check`."""
    sys.stdout.write(f"{describe()}\n")
    return 0


def check_beside(running: Manifest, wanted: Manifest) -> None:
    """See `Engine.check_beside`: each model has its own threads and settings, so any may run beside it."""


class OnnxSession:
    """Loads and tries a model; implements `edge.vision.engines.engine.Session`.

    Args:
        manifest: of the bundle.
        model: the content of an ONNX file with one input and one output.
        threads: that compute one inference.

    Raises:
        BundleError: ONNX Runtime cannot load or run it, or it is another model than the manifest describes.
    """

    def __init__(self, manifest: Manifest, model: bytes, threads: int) -> None:
        self.threads = threads
        self._shape = (1, manifest.input.side, manifest.input.side, 3)
        library = _library()
        self._session = _opened(library, model, threads)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise _other_model(f"it has {len(inputs)} inputs and {len(outputs)} outputs instead of one each")
        self._input = inputs[0].name
        # Together the threads wait for each other less often: a fifth to a third less time with two of them.
        self.takes_many = not isinstance((inputs[0].shape or [1])[0], int)
        try:
            answer = self._run(np.zeros(self._shape, np.uint8))
        except Exception as error:  # its errors have no other class in common
            raise _failed(library, "run", error) from error
        if not isinstance(answer, np.ndarray) or answer.ndim != 2:
            raise _other_model(f"it gives a {type(answer).__name__} of {np.ndim(answer)} dimensions instead of 2")
        expected = (1, manifest.features or answer.shape[1])
        if answer.dtype != np.float32 or answer.shape != expected:
            raise _other_model(f"it gives {answer.dtype} {answer.shape} instead of float32 {expected}")

    def new_buffer(self) -> Pixels:
        """See `Session`."""
        return np.empty(self._shape, np.uint8)

    def infer(self, pixels: Pixels) -> Floats:
        """See `Session`. The array is read where it is, without a copy."""
        answer: Floats = self._run(pixels)[0]
        return answer

    def infer_many(self, pixels: Sequence[Pixels]) -> Floats:
        """See `Session`."""
        if not self.takes_many:
            return np.stack([self.infer(one) for one in pixels])
        answers: Floats = self._run(np.concatenate(pixels))
        return answers

    def join_thread(self) -> None:
        """See `Session`; its threads are the same for each thread that calls it."""

    def _run(self, pixels: Pixels) -> Any:
        return self._session.run(None, {self._input: pixels})[0]


def unavailable() -> str:
    """Why ONNX Runtime cannot be used here, as a sentence; "" if it can."""
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None:
        return (
            "The bundle needs ONNX Runtime, which is not installed here; install it (on a PC with"
            f" Debian trixie `apt install python3-onnxruntime`, elsewhere `{PIP}`), or use another bundle."
        )
    # Debian's 1.21 for ARM64 computes constants in half precision while it is loaded, which cores before the Cortex-A75
    # cannot, such as those of a Pi 4 and a Zero 2 W: importing it would end this process.
    flags = cpu_flags()
    if (spec.origin or "").startswith(DEBIANS) and "asimd" in flags and "asimdhp" not in flags:
        return (
            "Debian's ONNX Runtime does not run on this processor, which has no arithmetic in half precision; remove it"
            f" and install PyPI's (`{PIP}`), or use another bundle."
        )
    return ""


def _refuse_unavailable() -> None:
    if reason := unavailable():
        raise BundleError(reason)


def _library() -> Any:
    """ONNX Runtime, which logs errors only and sends nothing anywhere."""
    # From 1.29 on PyPI's builds report to their maker. Only this variable stops them before they have written a file.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        library: Any = importlib.import_module("onnxruntime")
    except Exception as error:  # with another version of numpy than it was built for, it may raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BundleError(f"ONNX Runtime cannot be imported ({reason:.200}); install one for this Python.") from error
    library.set_default_logger_severity(ERRORS_ONLY)
    return library


@contextmanager
def _without_schema_errors() -> Iterator[None]:
    """Leave out what Debian's build prints when its first session opens: 567 operators that two of its libraries have.

    Other lines on standard error, also those of other threads, are printed at the end.
    """
    standard_error = os.dup(2)
    with os.fdopen(os.memfd_create("onnxruntime"), "rb") as printed:
        os.dup2(printed.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
            printed.seek(0)
            others = [line for line in printed if line.strip() and not line.startswith(b"Schema error: ")]
            with suppress(OSError):  # a log on a full disk, or a closed pipe, is no reason not to load the model
                os.write(2, b"".join(others))


def _opened(library: Any, model: bytes, threads: int) -> Any:
    """An inference session. It takes 40 ms for ResNet-18 on x86, half of it to optimize the graph."""
    # Constants may be in other files, anywhere on the disk; the format has this word for their names.
    if b"location" in model:
        raise BundleError("The bundle's model refers to another file, which is not read; export it again.")
    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = library.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = ERRORS_ONLY
    options.enable_cpu_mem_arena = False  # it is as fast without, and 5 MB smaller
    for key, value in SETTINGS.items():
        options.add_session_config_entry(key, value)
    try:
        with _one_at_a_time, _without_schema_errors():
            session = library.InferenceSession(model, options, providers=PROVIDERS)
    except Exception as error:  # its errors have no other class in common
        raise _failed(library, "load", error) from error
    session._model_bytes = b""  # 11 MB of ResNet-18, kept to load it for other providers, which is never done
    return session


def _failed(library: Any, action: str, error: Exception) -> BundleError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return BundleError(
        f"ONNX Runtime {library.__version__} cannot {action} the bundle's model ({reason:.200}); export it again here."
    )


def _other_model(what: str) -> BundleError:
    return BundleError(f"The bundle's model is not the one that its manifest describes ({what}); export it again.")
