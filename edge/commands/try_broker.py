"""Starts the broker of `try` on a free loopback port: mosquitto if it is installed, else amqtt."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.errors import BrokerError

LOOPBACK = "127.0.0.1"
START_WITHIN_S = 30.0  # importing amqtt takes this long on a Zero 2 W
MOSQUITTO = """\
listener {port} {host}
allow_anonymous true
persistence false
log_dest stderr
"""
AMQTT = """\
listeners:
  default:
    type: tcp
    bind: {host}:{port}
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker."""

    name: str
    port: int
    version: Literal[5, "3.1.1"]  # the newest that it speaks

    @property
    def url(self) -> str:
        """The value for `mqtt.url`."""
        return f"mqtt://{LOOPBACK}:{self.port}"


def find_mosquitto() -> str | None:
    """The path of mosquitto, or None. Debian installs it in /usr/sbin, which PATH may lack."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextmanager
def running_broker(directory: Path, mosquitto: str | None) -> Iterator[Broker]:
    """Run a broker that listens on loopback only, and stop it at the end.

    Args:
        directory: for its config and log.
        mosquitto: the program's path; None runs amqtt instead.

    Raises:
        BrokerError: no broker is installed, or it does not start.
    """
    amqtt = shutil.which("amqtt", path=str(Path(sys.executable).parent))
    if mosquitto is not None:
        program, text, broker = mosquitto, MOSQUITTO, Broker("mosquitto", free_port(), 5)
    elif amqtt is not None:
        program, text, broker = amqtt, AMQTT, Broker("amqtt", free_port(), "3.1.1")
    else:
        raise BrokerError("No broker is installed; run `sudo apt-get install mosquitto` or `pip install amqtt`.")
    config, log = directory / "broker.conf", directory / "broker.log"
    config.write_text(text.format(host=LOOPBACK, port=broker.port), encoding="utf-8")
    with running([program, "-c", str(config)], log) as process:
        _wait_until_listening(process, broker, log)
        yield broker


@contextmanager
def running(command: list[str], log: Path, *, stop_within_s: float = 10.0) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program with its output in `log`, and stop it at the end.

    It runs in a new session, so that Ctrl-C reaches only this process, which then stops its children in order: SIGTERM,
    and SIGKILL after `stop_within_s`.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=stop_within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A TCP port of the loopback address that is unused at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_listening(process: subprocess.Popen[bytes], broker: Broker, log: Path) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex((LOOPBACK, broker.port)) == 0:
                return
        time.sleep(0.05)  # there is no event for another process's listening socket
    raise BrokerError(f"{broker.name} did not start on {LOOPBACK}:{broker.port}; the reason is in {log}.")
