"""The operator `edge::trunk` of TorchScript: pixels in, features out, through the kernels' library.

It is registered from Python, so that neither a compiler for C++ nor torch's headers are needed. What the library
prepares from a network's data belongs to the tensor that holds the data: it is made at the first run, is shared by all
threads and all modules that share the tensor, and is freed with the tensor, when the last module with it is gone.
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from edge.kernels.library import KernelsError, Library, Trunk, open_library

NAMESPACE = "edge"
_SCHEMA = "trunk(Tensor pixels, Tensor data, int features) -> Tensor"
_one_at_a_time = threading.Lock()
_registered: list[_Operator] = []  # empty or one: torch has one registry for the process


def register() -> None:
    """Make `edge::trunk` known to torch; needed before a module with it is loaded or made. May be called again.

    Raises:
        KernelsError: the library is not here, see `library.open_library`.
    """
    with _one_at_a_time:
        if not _registered:
            _registered.append(_Operator(open_library()))


class _Operator:
    def __init__(self, library: Library) -> None:
        self._library = library
        self._parallel = _torchs_openmp()
        # By the identity of the tensor, not by its address, which is reused.
        self._trunks: Any = WeakTensorKeyDictionary()
        self._lock = threading.Lock()  # of `_trunks`
        os.register_at_fork(after_in_child=self._be_alone)
        registry: Any = torch.library
        self._registry = registry.Library(NAMESPACE, "DEF")  # what it registers lives as long as this object
        self._registry.define(_SCHEMA)
        self._registry.impl("trunk", self._run, "CPU")
        registry.register_fake(f"{NAMESPACE}::trunk", _shape, lib=self._registry)

    def _run(self, pixels: torch.Tensor, data: torch.Tensor, features: int) -> torch.Tensor:
        """Features (photos, features) float32 of pixels (photos, side, side, 3) uint8; data is (bytes,) uint8."""
        trunk = self._trunk_of(data)
        wanted = (trunk.side, trunk.side, 3)
        if pixels.dtype != torch.uint8 or pixels.dim() != 4 or pixels.shape[1:] != wanted or features != trunk.features:
            raise ValueError(
                f"edge::trunk takes uint8 pixels (photos, {', '.join(map(str, wanted))}) and gives {trunk.features}"
                f" features; it was given {pixels.dtype} {tuple(pixels.shape)} for {features}."
            )
        pixels = pixels.contiguous()
        found = torch.empty((len(pixels), features))
        threads = torch.get_num_threads()
        for photo in range(len(pixels)):
            trunk.run(pixels[photo].data_ptr(), found[photo].data_ptr(), threads, self._parallel)
        return found

    def _trunk_of(self, data: torch.Tensor) -> Trunk:
        with self._lock:
            trunk: Trunk | None = self._trunks.get(data)
            if trunk is None:
                if data.dtype != torch.uint8 or data.dim() != 1:
                    raise KernelsError(f"The network's data is {data.dtype} {tuple(data.shape)}, not bytes.")
                content = data.contiguous()
                most = max(torch.get_num_threads(), os.cpu_count() or 1)  # the count may be set higher later
                trunk = Trunk(self._library, content.data_ptr(), content.numel(), most)
                self._trunks[data] = trunk
            return trunk

    def _be_alone(self) -> None:
        """After a fork only this thread is left: the pool's threads are gone, and a lock may be held for ever."""
        self._lock = threading.Lock()
        self._parallel = None


def _shape(pixels: torch.Tensor, data: torch.Tensor, features: int) -> torch.Tensor:
    """The operator on tensors without content."""
    return pixels.new_empty((pixels.shape[0], features), dtype=torch.float32)


def _torchs_openmp() -> int | None:
    """The address of GOMP_parallel in the OpenMP that torch uses, so that both have one pool of threads; None without.

    The lookup goes the linker's way: first what is loaded for all, such as by LD_PRELOAD, then what torch needs. PyPI's
    torch brings its own libgomp under another name. LLVM's and Intel's OpenMP have the function too.
    """
    for place in (None, torch._C.__file__):
        try:
            return ctypes.cast(ctypes.CDLL(place).GOMP_parallel, ctypes.c_void_p).value
        except AttributeError:
            continue
    return None
