"""Runs the real daemon as a process, with a real datagram socket in the place of systemd's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.broker import eventually

CHECKOUT = Path(__file__).parent.parent
START_WITHIN_S = 90.0  # importing torch on a busy machine
STOP_WITHIN_S = 5.0  # the promise
SLACK_S = 3.0  # tolerance for a busy machine


def environment(**more: str) -> dict[str, str]:
    """This process's environment without edge-classifier's settings, and with the checkout importable."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("EDGE_CLASSIFIER_")}
    free_port = {"EDGE_CLASSIFIER_WEB_LISTEN": "127.0.0.1:0"}
    return kept | {"PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1"} | free_port | more


def run_command(
    *arguments: str | Path, timeout_s: float = 120.0, cwd: Path | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run `edge-classifier ARGUMENTS` and wait for its end."""
    return subprocess.run(
        [sys.executable, "-m", "edge", *map(str, arguments)],
        env=environment(**more),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


class Daemon:
    """A running `edge-classifier run`."""

    def __init__(self, command: Sequence[str], folder: Path, **more: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "daemon.log"
        address = folder / "notify"
        address.unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(address))
        self.notifications: list[str] = []  # every line that was sent to systemd
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._hearing.start()
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment(NOTIFY_SOCKET=str(address), **more), stdout=log, stderr=log
            )

    @property
    def log(self) -> str:
        """Everything that it has printed so far."""
        return self._log.read_text(encoding="utf-8")

    def _hear(self) -> None:
        while (datagram := self._notify.recv(65536)) != b"":
            self.notifications += datagram.decode().split("\n")

    def wait_notified(self, start: str, within_s: float = START_WITHIN_S) -> str:
        """Wait until systemd has received a line that begins with `start`; returns the newest such line."""

        def found() -> str | None:
            lines = [line for line in self.notifications if line.startswith(start)]
            ended = self.process.poll() is not None
            assert lines or not ended, f"the daemon ended with {self.process.returncode}:\n{self.log}"
            return lines[-1] if lines else None

        return str(eventually(found, f"systemd receives {start}; the log: {self.log}", within_s))

    def wait_ready(self) -> None:
        """Wait for READY=1."""
        self.wait_notified("READY=1")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send the signal and wait for the end; returns how many seconds it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.wait()
        return time.monotonic() - began

    def wait(self, within_s: float = STOP_WITHIN_S + SLACK_S) -> int:
        """Wait for the end; returns the exit code."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            raise AssertionError(f"the daemon did not end within {within_s} s; its log:\n{self.log}") from None

    def close(self) -> None:
        """Kill it if it still runs."""
        self.process.kill()
        self.process.wait()
        self._notify.shutdown(socket.SHUT_RDWR)
        self._hearing.join(5)
        self._notify.close()


@contextmanager
def running(config: Path, *, light: bool = False, **more: str) -> Iterator[Daemon]:
    """Run the daemon with a config file, whose folder gets its log; `light`: without torch, see light_daemon.py."""
    run = ["tests.light_daemon", str(config)] if light else ["edge", "run", "--config", str(config)]
    daemon = Daemon([sys.executable, "-m", *run], config.parent, **more)
    try:
        yield daemon
    finally:
        daemon.close()
