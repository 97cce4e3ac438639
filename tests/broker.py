"""Starts a real mosquitto for a test, and a subscriber that records everything it receives."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

DEADLINE_S = 30.0
NEW_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def eventually(true: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Wait until a condition holds; if it does not in time, fail with `what`."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        if found := true():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {deadline_s:g} s: {what}")


class Mosquitto:
    """One broker process on a port of its own, which stays the same over restarts.

    Args:
        directory: for its configuration and its log.
        lines: further lines of mosquitto.conf.
        persistent: whether its sessions survive a kill, so that a subscriber misses nothing.
    """

    def __init__(self, directory: Path, lines: tuple[str, ...] = (), persistent: bool = False) -> None:
        executable = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        if executable is None:
            pytest.skip("mosquitto is not installed: apt-get install mosquitto mosquitto-clients")
        self._executable = executable
        self.address = address = "127.0.0.1"
        self.port = free_port()
        self.log = directory / "mosquitto.log"
        self._config = directory / "mosquitto.conf"
        basic = [f"listener {self.port} {address}", "user root", f"log_dest file {self.log}"]
        # Messages that a subscriber has not received yet survive a kill of the broker.
        basic += [f"persistence_location {directory}/", "autosave_on_changes true", "autosave_interval 1"]
        basic += ["max_queued_messages 0", f"persistence {str(persistent).lower()}"]
        anonymous = [] if any(line.startswith("allow_anonymous") for line in lines) else ["allow_anonymous true"]
        self._config.write_text("\n".join([*basic, "log_type all", *anonymous, *lines, ""]))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://{self.address}:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen([self._executable, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        eventually(self.listens, f"mosquitto listens on {self.port}")

    def listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"mosquitto ended: {self.log.read_text()[-2000:]}"
        try:
            socket.create_connection((self.address, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(how)
            self._process.wait(10)
            self._process = None

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop answering while the connections stay open, as after a pulled network cable."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def reload(self) -> None:
        """Make it read passwords and access lists again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)


@dataclass(frozen=True)
class Received:
    topic: str
    payload: bytes
    retain: bool
    at: float = field(default_factory=time.monotonic)

    def json(self) -> Any:
        return json.loads(self.payload)


class Subscriber:
    """Records every message in order, across restarts of the broker."""

    def __init__(self, broker: Mosquitto, topic: str = "#") -> None:
        self.received: list[Received] = []
        self._subscribed = threading.Event()
        self._topic = topic
        # A new id each time, because the broker keeps the session of an id and its messages.
        name = f"subscriber-{uuid.uuid4()}"
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_disconnect = lambda *_: self._subscribed.clear()
        self._client.on_message = lambda _client, _data, message: self.received.append(
            Received(message.topic, message.payload, message.retain)
        )
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 3600
        self._client.connect_async(broker.address, broker.port, keepalive=10, clean_start=False, properties=session)
        self._client.loop_start()
        self.wait_subscribed()

    def wait_subscribed(self) -> None:
        assert self._subscribed.wait(DEADLINE_S), "the subscriber is not connected"

    def on(self, suffix: str) -> list[Received]:
        """The messages whose topic ends with `suffix`."""
        return [message for message in list(self.received) if message.topic.endswith("/" + suffix)]

    def ids(self, suffix: str) -> list[str]:
        """The ids of the events whose topic ends with `suffix`, in order, with repetitions."""
        return [message.json()["id"] for message in self.on(suffix)]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Brokers:
    """Starts brokers and subscribers, and stops them at the end of the test."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._brokers: list[Mosquitto] = []
        self._subscribers: list[Subscriber] = []

    def start(self, *lines: str, persistent: bool = False) -> Mosquitto:
        broker = self.prepare(*lines, persistent=persistent)
        broker.start()
        return broker

    def prepare(self, *lines: str, persistent: bool = False) -> Mosquitto:
        """A broker that is not started yet."""
        directory = self._directory / f"broker-{len(self._brokers)}"
        directory.mkdir()
        self._brokers.append(Mosquitto(directory, lines, persistent))
        return self._brokers[-1]

    def subscribe(self, broker: Mosquitto, topic: str = "#") -> Subscriber:
        self._subscribers.append(Subscriber(broker, topic))
        return self._subscribers[-1]

    def prepare_heard(self) -> tuple[Mosquitto, Subscriber]:
        """A broker that is not started yet, and a subscriber that has a session there.

        The subscriber misses nothing, even if a waiting box connects first.
        """
        # The session is saved at the stop below; saving at each change makes a broker slow.
        broker = self.prepare("autosave_interval 0", "autosave_on_changes false", persistent=True)
        broker.start()
        subscriber = self.subscribe(broker)
        broker.stop()
        return broker, subscriber

    def close(self) -> None:
        for subscriber in self._subscribers:
            subscriber.close()
        for broker in self._brokers:
            broker.kill()


@contextmanager
def brokers_in(directory: Path) -> Iterator[Brokers]:
    brokers = Brokers(directory)
    try:
        yield brokers
    finally:
        brokers.close()


@dataclass(frozen=True)
class Certificates:
    """A certificate authority, a server certificate for 127.0.0.1 and a client certificate, made by openssl."""

    directory: Path

    @property
    def authority(self) -> Path:
        return self.directory / "ca.crt"

    def make(self) -> None:
        self._openssl(f"req -x509 {NEW_KEY} -days 2 -subj /CN=authority -keyout ca.key -out ca.crt")

    def issue(self, name: str, subject_alternative: str = "IP:127.0.0.1", days: int = 2) -> tuple[Path, Path]:
        """Make `name`.crt and `name`.key; with 0 days the certificate has expired."""
        self._openssl(f"req {NEW_KEY} -subj /CN={name} -keyout {name}.key -out {name}.csr")
        (self.directory / f"{name}.ext").write_text(f"subjectAltName={subject_alternative}\n")
        signer = "-CA ca.crt -CAkey ca.key -CAcreateserial"
        self._openssl(f"x509 -req -in {name}.csr {signer} -days {days} -extfile {name}.ext -out {name}.crt")
        return self.directory / f"{name}.crt", self.directory / f"{name}.key"

    def _openssl(self, arguments: str) -> None:
        done = subprocess.run(
            ["openssl", *arguments.split()], cwd=self.directory, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
