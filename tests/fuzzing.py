"""How long the fuzzers run, and what the process that they attack may use meanwhile."""

import gc
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.board.systemd import set_up_logging
from tests.strangers_decoder import peak_bytes

SECONDS = int(os.environ.get("FUZZ_SECONDS", "0"))  # 0: some hundred requests, as in `scripts/test`
TIMEOUT_S = 120 + 2 * SECONDS
GROWTH_BYTES = 50_000_000  # mostly what the fuzzer itself keeps
MORE_FILES, MORE_THREADS = 24, 12
MAX_LINES = 40  # of the log; each kind of fault has five, then one a minute


class _Lines(logging.Handler):
    """Counts the lines of the log."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += len(self.format(record).splitlines())


@contextmanager
def bounded() -> Iterator[None]:
    """Fails if this process needs more memory, files, threads or lines of its log within the block than it may."""
    set_up_logging("info")
    lines = _Lines()
    logging.getLogger("edge").addHandler(lines)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before, files, threads = peak_bytes("self"), _files(), threading.active_count()
    began = time.monotonic()
    yield
    grown = peak_bytes("self") - before
    more_files, more_threads = _files() - files, threading.active_count() - threads
    print(
        f"{time.monotonic() - began:.0f} s: {grown / 1e6:+.0f} MB at the peak, {more_files:+d} files,"
        f" {more_threads:+d} threads, {lines.count} lines"
    )
    assert grown < GROWTH_BYTES
    assert more_files < MORE_FILES
    assert more_threads < MORE_THREADS
    assert lines.count < MAX_LINES


def _files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
