"""The shared library of the kernels: where it is, whether it can be used here, and its functions (see `trunk.h`).

Imports no torch, so that a bundle can be checked without it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import sys
from pathlib import Path

from edge.errors import BundleError

ABI_VERSION = 1  # EDGE_TRUNK_ABI_VERSION in `trunk.h`
SOURCES = Path(__file__).parent
DIRECTORY = SOURCES  # that of the library; tests build it elsewhere
MOST_THREADS = 64  # of `trunk.h`
_ERROR_BYTES = 512
FLAGS = ("-O2", "-ffp-contract=off", "-fvisibility=hidden", "-fPIC", "-shared", "-s")


class KernelsError(BundleError):
    """The kernels, which a bundle may need, are missing, cannot be built, or refuse their data (EX_UNAVAILABLE)."""

    exit_code = 69


class _Options(ctypes.Structure):
    """`edge_trunk_options`."""

    _fields_ = (("threads", ctypes.c_int32), ("method", ctypes.c_int32))


def is_arm64() -> bool:
    """Whether the kernels suit this processor; on others the library computes the same in plain C, for tests."""
    return platform.machine().lower() in ("aarch64", "arm64")


def sources() -> list[Path]:
    """The C and assembly files that the compiler is given; the headers are beside them."""
    return sorted(file for file in SOURCES.iterdir() if file.suffix in (".c", ".S"))


def file_name() -> str:
    """The library's name: it has a digest of the sources, so that one built from other sources is never used."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for file in sorted({*sources(), *SOURCES.glob("*.h")}):
        digest.update(file.read_bytes())
    return f"libedge_kernels-{digest.hexdigest()[:8]}.so"


def how_to_build() -> str:
    """The command that builds the library for this installation."""
    sudo = "" if os.access(DIRECTORY, os.W_OK) else "sudo "
    compiler = "" if shutil.which("cc") else "sudo apt-get install gcc libc6-dev, and then "
    return f"{compiler}{sudo}{sys.executable} -m edge.kernels.build"


def unavailable() -> str:
    """Why the kernels cannot be used here, as a sentence; "" if they can."""
    try:
        open_library()
    except KernelsError as error:
        return str(error)
    return ""


def open_library() -> Library:
    """The library, loaded into this process.

    Raises:
        KernelsError: it was not built, or was built for another processor or version.
    """
    file = DIRECTORY / file_name()
    if not file.exists():
        if not is_arm64():
            raise KernelsError(
                f"The kernels of edge-classifier's own are for ARM64, and this machine is {platform.machine()}; export"
                " the model again here, for an engine that this machine has."
            )
        raise KernelsError(f"The kernels of edge-classifier's own are not built here; run: {how_to_build()}")
    try:
        return Library(file)
    except (OSError, AttributeError) as error:
        raise KernelsError(
            f"{file} cannot be loaded ({error}); was it built for another machine? Build it here: {how_to_build()}"
        ) from error


class Library:
    """The functions of one library file.

    Raises:
        OSError: the file is no library for this machine.
        AttributeError: it lacks a function.
        KernelsError: it has another ABI.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        functions = ctypes.CDLL(str(file))  # its calls release Python's lock
        handle, size = ctypes.c_void_p, ctypes.c_size_t
        functions.edge_trunk_version.restype = ctypes.c_int32
        if (version := functions.edge_trunk_version()) != ABI_VERSION:
            raise KernelsError(
                f"{file} has version {version} of the kernels' interface, and this edge-classifier needs"
                f" {ABI_VERSION}; build it again: {how_to_build()}"
            )
        self.create = functions.edge_trunk_create
        self.create.argtypes = (handle, size, ctypes.POINTER(_Options), ctypes.POINTER(handle), ctypes.c_char_p, size)
        self.run = functions.edge_trunk_run
        self.run.argtypes = (handle, handle, handle, ctypes.c_int32, handle)
        self.free = functions.edge_trunk_free
        self.free.argtypes, self.free.restype = (handle,), None
        self.side, self.features = functions.edge_trunk_side, functions.edge_trunk_features
        for function in (self.side, self.features):
            function.argtypes, function.restype = (handle,), ctypes.c_int32
        functions.edge_trunk_instructions.restype = ctypes.c_char_p
        self.instructions: str = functions.edge_trunk_instructions().decode()  # such as "ARM64 with dot product"


class Trunk:
    """One network, ready to run; it owns the library's handle and frees it when Python frees the object.

    Args:
        library: whose functions run it.
        address: of the data, which is copied.
        length: of the data in bytes.
        threads: the most that a run may use; more than `MOST_THREADS` count as these.
        method: of `trunk.h`; 0 is the fastest for this processor.

    Raises:
        KernelsError: the data is damaged or of another version, or memory ran out.
    """

    def __init__(self, library: Library, address: int, length: int, threads: int, method: int = 0) -> None:
        self._handle = ctypes.c_void_p()
        self._library = library
        reason = ctypes.create_string_buffer(_ERROR_BYTES)
        options = _Options(min(threads, MOST_THREADS), method)
        if library.create(address, length, options, self._handle, reason, _ERROR_BYTES):
            raise KernelsError(f"The kernels refuse the network's data: {reason.value.decode(errors='replace')}")
        self.side: int = library.side(self._handle)  # of the pixel buffer
        self.features: int = library.features(self._handle)

    def run(self, pixels: int, features: int, threads: int, parallel: int | None) -> None:
        """Compute the features of one pixel buffer; several threads may do so at once.

        Args:
            pixels: address of (side, side, 3) uint8.
            features: address of (features,) float32, which is written.
            threads: how many take part, but no more than the object was made for.
            parallel: address of OpenMP's GOMP_parallel; None: all is done in this thread.

        Raises:
            MemoryError: there is no memory for the values between the operations.
        """
        if self._library.run(self._handle, pixels, features, threads, parallel):
            raise MemoryError("There is no memory for the kernels' values; close other programs, or add swap.")

    def __del__(self) -> None:
        self._library.free(self._handle)
