"""Compares the installed bundles: each in a process of its own, and the processes measured in turn."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import IO

from edge.board import host
from edge.board.child_process import fresh_python
from edge.errors import BundleError
from edge.settings.schema import ModelSettings
from edge.vision.bundle import load_bundle
from edge.vision.installed import Installed
from edge.workshop.bench.one_bundle import PROGRAM
from edge.workshop.bench.result import InstalledBundle

ROUNDS = 4  # of each bundle, so that other work on the board disturbs all alike
WITHIN_S = 300.0  # for one answer of a process: loading a model takes more than a minute on a Zero 2 W
ROOM = 1.3  # a further process is started while the free memory is this many times that of the largest one so far


def compare_installed(
    installed: Installed,
    settings: ModelSettings,
    seconds: float,
    progress: Callable[[str], None] = lambda _: None,
    free_bytes: Callable[[], int | None] = host.memory_free_bytes,
) -> tuple[InstalledBundle, ...]:
    """Measure every installed bundle with the daemon's device and thread count.

    Args:
        installed: the bundles; they may have different networks.
        settings: `device` and `threads`.
        seconds: for all of them, without the starts of their processes.
        progress: called with a description of each step.
        free_bytes: the memory that is free. Where it does not suffice for all processes at once, the bundles are
            measured in groups, one group after the other.

    Returns:
        The fastest first; then those that cannot run here, with the reason.
    """
    names, rows = installed.names(), []
    share = seconds / ROUNDS / max(1, len(names))
    waiting = list(names)
    while waiting:
        with ExitStack() as stack:
            group: list[_Measured] = []
            while waiting and (not group or _room(group, free_bytes())):
                progress(f"{waiting[0]} ({len(names) - len(waiting) + 1} of {len(names)})")
                group.append(stack.enter_context(_started(installed.directory / waiting.pop(0), settings)))
            for _ in range(ROUNDS):
                for one in group:
                    one.measure(share)
            rows += [one.row(installed.current) for one in group]
    return tuple(sorted(rows, key=lambda row: (row.p50_ms is None, row.p50_ms, row.name)))


def _room(group: Sequence[_Measured], free: int | None) -> bool:
    return free is None or free > ROOM * max(one.memory_bytes for one in group)


class _Measured:
    """One bundle's process, and what it has answered; `reason` is why it answers no more."""

    def __init__(self, directory: Path, process: subprocess.Popen[str], errors: IO[bytes]) -> None:
        self._directory, self._process, self._errors = directory, process, errors
        self._times: list[float] = []
        self.memory_bytes = 0
        self.reason = ""

    def measure(self, seconds: float | None) -> None:
        """Have it infer for `seconds`; None: wait until it has loaded the model."""
        if self.reason:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        deadline = threading.Timer(WITHIN_S, self._process.kill)
        deadline.start()
        try:
            if seconds is not None:
                self._process.stdin.write(f"{seconds}\n")
                self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:  # it has just ended
            line = ""
        finally:
            late = not deadline.is_alive()
            deadline.cancel()
        if not line:
            self.reason = f"no answer within {WITHIN_S:.0f} s" if late else self._why_it_ended()
            return
        answer = json.loads(line)
        self._times += answer["ms"]
        self.memory_bytes = answer["memory_bytes"]

    def _why_it_ended(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        if code == BundleError.exit_code and lines:
            return str(lines[-1])  # a sentence
        last = f": {lines[-1]:.200}" if lines else ""
        return f"its process ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}{last}"

    def row(self, current: str | None) -> InstalledBundle:
        """What is known about the bundle now."""
        engine, agreement = "", None
        try:
            manifest = load_bundle(self._directory).manifest
            engine = str(manifest.engine)
            agreement = manifest.agreement.top1 if manifest.agreement else None
        except BundleError as error:
            self.reason = self.reason or str(error)
        ok = not self.reason and bool(self._times)
        return InstalledBundle(
            name=self._directory.name,
            current=self._directory.name == current,
            engine=engine,
            agreement=agreement,
            golden=ok,
            p50_ms=round(median(self._times), 3) if ok else None,
            memory_mb=round(self.memory_bytes / 1e6, 1) if ok else None,
            reason=self.reason,
        )


@contextmanager
def _started(directory: Path, settings: ModelSettings) -> Iterator[_Measured]:
    """A process that has loaded the bundle, or has ended because it cannot; it ends with the context."""
    command = fresh_python(PROGRAM, str(directory), settings.device, str(settings.threads), options=("-W", "ignore"))
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True) as process,
    ):
        measured = _Measured(directory, process, errors)
        measured.measure(None)
        try:
            yield measured
        finally:
            process.kill()  # it has nothing to save
