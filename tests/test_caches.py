"""The cache model that memory traffic is counted with (scripts/arm64/caches.h): patterns whose traffic is known."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[1] / "scripts/arm64/caches.h"
KIB, MIB, LINE = 1024, 1024 * 1024, 64
FROM, INTO = 0, 1024 * MIB  # two addresses with room behind them

Walk = Callable[[int, int, int, bool], tuple[int, int]]

C = """
#include "caches.h"
static struct caches caches;
int start(int l1, int l1_ways, int l2, int l2_ways) {
    caches = (struct caches){0};
    return cache_init(&caches.first, l1, l1_ways) && cache_init(&caches.last, l2, l2_ways);
}
void walk(uint64_t at, uint64_t bytes, uint64_t step, int store) {
    for (uint64_t i = 0; i < bytes; i += step) caches_access(&caches, at + i, 8, store);
}
void copy(uint64_t into, uint64_t at, uint64_t bytes) {
    for (uint64_t i = 0; i < bytes; i += 8) {
        caches_access(&caches, at + i, 8, 0);
        caches_access(&caches, into + i, 8, 1);
    }
}
uint64_t read_bytes(void) { return caches.read; }
uint64_t written_bytes(void) { return caches.written; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The model, compiled."""
    compiler = shutil.which("cc") or pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("caches")
    source, library = folder / "model.c", folder / "model.so"
    source.write_text(C, encoding="utf-8")
    command = [compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", f"-I{MODEL.parent}", "-o", library, source]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(library))
    for function in (loaded.walk, loaded.copy):
        function.restype = None
        function.argtypes = [ctypes.c_uint64] * 3 + [ctypes.c_int] * (function is loaded.walk)
    loaded.read_bytes.restype = loaded.written_bytes.restype = ctypes.c_uint64
    return loaded


@pytest.fixture
def model(library: ctypes.CDLL) -> ctypes.CDLL:
    """A Cortex-A72's caches, empty: 32 KiB in 2 ways and 1 MiB in 16 ways."""
    assert library.start(32, 2, 1024, 16)
    return library


@pytest.fixture
def walk(model: ctypes.CDLL) -> Walk:
    """walk(address, bytes, step, store): what one walk reads from memory and writes to it."""

    def measured(at: int, size: int, step: int, store: bool) -> tuple[int, int]:
        read, written = model.read_bytes(), model.written_bytes()
        model.walk(at, size, step, store)
        return model.read_bytes() - read, model.written_bytes() - written

    return measured


def test_a_copy_reads_source_and_target_and_writes_the_target(model: ctypes.CDLL) -> None:
    """Half of the 1 MiB that stays in the cache at the end is changed and not yet written."""
    model.copy(INTO, FROM, 8 * MIB)
    assert model.read_bytes() == 16 * MIB
    assert model.written_bytes() == 8 * MIB - 512 * KIB


@pytest.mark.parametrize("size", [16 * KIB, 512 * KIB, MIB])
def test_what_fits_is_read_once(walk: Walk, size: int) -> None:
    """In the first level, in the last one, and exactly in the last one."""
    assert walk(FROM, size, 8, False) == (size, 0)
    assert walk(FROM, size, 8, False) == (0, 0)


def test_what_is_a_little_too_large_is_read_each_time(walk: Walk) -> None:
    """LRU keeps nothing of a loop over one way more than the cache has: 17 of 16."""
    size = MIB + 64 * KIB
    walk(FROM, size, 8, False)
    assert walk(FROM, size, 8, False) == (size, 0)


def test_a_stride_uses_few_sets(walk: Walk) -> None:
    """Every fourth line uses a quarter of the sets: 512 KiB of lines do not fit into their 256 KiB, 256 KiB do."""
    lines = 2 * MIB // (4 * LINE)
    assert walk(FROM, 2 * MIB, 4 * LINE, False) == (lines * LINE, 0)
    assert walk(FROM, 2 * MIB, 4 * LINE, False) == (lines * LINE, 0)
    assert walk(INTO, MIB, 4 * LINE, False) == (lines // 2 * LINE, 0)
    assert walk(INTO, MIB, 4 * LINE, False) == (0, 0)


def test_stores_read_the_line_and_are_written_when_it_leaves(walk: Walk) -> None:
    """Write-allocate and write-back: 1 MiB stays changed in the cache until other lines need the room."""
    assert walk(INTO, 8 * MIB, LINE, True) == (8 * MIB, 7 * MIB)
    assert walk(FROM, 8 * MIB, LINE, False) == (8 * MIB, MIB)
    assert walk(FROM, 8 * MIB, LINE, False) == (8 * MIB, 0)


def test_an_access_across_two_lines_reads_both(walk: Walk) -> None:
    """8 bytes that begin 4 bytes before the end of a line."""
    assert walk(FROM + LINE - 4, 1, 1, False) == (2 * LINE, 0)
