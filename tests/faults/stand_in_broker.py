"""A small MQTT broker that answers with the reason codes it is told to, which mosquitto cannot be made to do."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers

HANG_UP = b"-"  # instead of a CONNACK: the broker closes the connection
CLOSE = -1  # instead of a PUBACK's code: the broker ends the connection
CONNECT, PUBLISH, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 8, 12, 14


class Packet(NamedTuple):
    """A PUBLISH."""

    topic: str
    payload: bytes
    retain: bool


class StandIn:
    """Serves each client in a thread of its own.

    Args:
        level: the protocol level that it speaks; 4 is MQTT 3.1.1.
        connack: the reason codes of the first CONNACKs; those after them succeed.
        suback: the reason codes of the first SUBACKs; those after them succeed.
        puback: the reason code for a message, or CLOSE.
        disconnect: the reason code of the DISCONNECT that follows CLOSE.
        answer: sent instead of a CONNACK; with level 4 to clients of MQTT 5 only.
        limits: properties of the CONNACK, such as `MaximumPacketSize=2000`. After 1.5 times the `ServerKeepAlive`
            without a packet the connection is closed.
    """

    def __init__(
        self,
        level: int,
        connack: Sequence[int],
        suback: Sequence[int],
        puback: Callable[[Packet], int],
        disconnect: int,
        answer: bytes,
        limits: dict[str, int],
    ) -> None:
        self._disconnect, self._suback, self._answer = disconnect, list(suback), answer
        self._silence_s = 1.5 * limits.get("ServerKeepAlive", 0) or None
        self.connects = self.pings = 0
        self.client_ids: list[str] = []  # of each CONNECT
        self.published: list[Packet] = []  # what it accepted
        self._five, self._level, self._connack, self._puback = level == 5, level, list(connack), puback
        properties = Properties(PacketTypes.CONNACK)
        for name, value in limits.items():
            setattr(properties, name, value)
        self._limits = properties.pack() if self._five else b""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._server.getsockname()[1]}"
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name="stand-in broker")]
        self._threads[0].start()

    def ids(self, suffix: str) -> list[str]:
        """The ids of the accepted events whose topic ends with `suffix`."""
        return [json.loads(one.payload)["id"] for one in self.published if one.topic.endswith("/" + suffix)]

    def close(self) -> None:
        for one in (self._server, *self._clients):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self._clients.append(client)
                self._threads.append(threading.Thread(target=self._serve, args=(client,), name="stand-in client"))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError, EOFError), client.makefile("rb") as stream:
            while True:
                kind, flags, body = _read(stream.read)
                if kind == CONNECT:
                    if not self._connect(client, body):
                        return
                elif kind == PUBLISH:
                    self._publish(client, flags, body)
                elif kind == SUBSCRIBE:
                    code = self._suback.pop(0) if self._suback else 1
                    client.sendall(_packet(0x90, body[:2] + (b"\0" if self._five else b"") + bytes([code] * 2)))
                elif kind == PINGREQ:
                    self.pings += 1
                    client.sendall(b"\xd0\0")
                elif kind == DISCONNECT:
                    return

    def _connect(self, client: socket.socket, body: bytes) -> bool:
        self.connects += 1
        client.settimeout(self._silence_s)
        if self._answer and (self._five or body[6] == 5):
            if self._answer != HANG_UP:
                client.sendall(self._answer)
            return self._answer != HANG_UP
        if body[6] != self._level:
            client.sendall(_packet(0x20, b"\0\1"))  # as MQTT 3.1.1 defines it
            return False
        at = 10 + (sum(_variable(body, 10)) if self._five else 0)
        (length,) = struct.unpack_from("!H", body, at)
        self.client_ids.append(body[at + 2 : at + 2 + length].decode())
        code = self._connack.pop(0) if self._connack else 0
        client.sendall(_packet(0x20, bytes([0, code]) + self._limits))
        return not code

    def _publish(self, client: socket.socket, flags: int, body: bytes) -> None:
        (length,) = struct.unpack_from("!H", body)
        topic, rest, acknowledged = body[2 : 2 + length].decode(), body[2 + length :], bool(flags & 0x06)
        mid, rest = (rest[:2], rest[2:]) if acknowledged else (b"", rest)
        message = Packet(topic, rest[sum(_variable(rest, 0)) if self._five else 0 :], bool(flags & 1))
        code = self._puback(message)
        if code == CLOSE:
            client.sendall(_packet(0xE0, bytes([self._disconnect])))
            client.shutdown(socket.SHUT_RDWR)
            return
        if code < 0x80:
            self.published.append(message)
        if acknowledged:
            client.sendall(_packet(0x40, mid + (bytes([code]) if self._five else b"")))


@contextmanager
def stand_in_broker(
    *,
    level: int = 5,
    connack: Sequence[int] = (),
    suback: Sequence[int] = (),
    puback: Callable[[Packet], int] = lambda _: 0,
    disconnect: int = 0x8B,
    answer: bytes = b"",
    **limits: int,
) -> Iterator[StandIn]:
    """A `StandIn` that serves until the end of the block."""
    broker = StandIn(level, connack, suback, puback, disconnect, answer, limits)
    try:
        yield broker
    finally:
        broker.close()


def _read(read: Callable[[int], bytes]) -> tuple[int, int, bytes]:
    """The next packet: its type, its flags and the rest."""
    if not (first := read(1)):
        raise EOFError
    length, shift, byte = 0, 0, 0x80
    while byte >= 0x80:
        (byte,) = read(1)
        length |= (byte & 0x7F) << shift
        shift += 7
    return first[0] >> 4, first[0] & 0x0F, read(length)


def _variable(body: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer, and how many bytes it takes."""
    value, used = VariableByteIntegers.decode(body[at : at + 4])  # type: ignore[no-untyped-call]
    return int(value), int(used)


def _packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + bytes(VariableByteIntegers.encode(len(body))) + body  # type: ignore[no-untyped-call]
