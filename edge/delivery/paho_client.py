"""Replaces two parts of paho, versions 2.0 to 2.2: how a socket is opened, and which reason codes a broker may give.

Other internals of paho are used in `connection.py` only, for the keep-alive.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode


class OurClient(Client):
    """A client with our way to open a socket, and with every reason that a broker gives.

    paho's waits its time limit for each dead address, and leaves the socket of a failed handshake open.
    """

    def __init__(self, open_tcp: Callable[[], socket.socket], **options: Any) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, **options)
        self._open_tcp = open_tcp

    def _create_socket(self) -> socket.socket:
        opened = self._open_tcp()
        if self._ssl_context is None:
            return opened
        try:
            # The socket has the time limit of its TCP connection, which counts for the handshake too.
            return self._ssl_context.wrap_socket(opened, server_hostname=self._host)
        except BaseException:
            opened.close()
            raise

    def _handle_disconnect(self) -> None:
        # paho before 2.2 reads the reason code of longer packets only, and mosquitto sends one or two bytes.
        if 0 < self._in_packet["remaining_length"] < 3:
            self._in_packet["remaining_length"] = 3
        super()._handle_disconnect()


_listed_name = ReasonCode.__getName__


def _name(reason: ReasonCode, packet: int, code: int) -> str:
    """The name of a reason code, also where MQTT 5 does not list it for this kind of packet.

    paho then refuses the packet, and the message that it answers would be sent again on each connection. Mosquitto
    answers a message above its `message_size_limit` with such a code.
    """
    try:
        return _listed_name(reason, packet, code)
    except (AssertionError, LookupError, ValueError):
        if packet == PacketTypes.CONNACK and code < 0x80:
            raise  # a CONNACK of MQTT 3.1.1
        return str(next(iter(reason.names.get(code, [f"Unknown reason {code:#04x}"]))))


def _unpack(reason: ReasonCode, buffer: bytes) -> int:
    reason.value = buffer[0]
    reason.getName()  # raises if it cannot be one
    return 1


ReasonCode.__getName__ = _name  # type: ignore[assignment,method-assign]
ReasonCode.unpack = _unpack  # type: ignore[assignment,method-assign]
