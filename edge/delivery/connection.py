"""One MQTT connection: a paho client that is used once, and reports of what happens on it.

A client is used for one connection only, because paho sends what is in flight again after a reconnect, before the
caller can prevent it. Callbacks only pass tuples on, because an exception in them would end the network thread.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.delivery.credentials import read_password, tls_context
from edge.delivery.limits import read_limits
from edge.delivery.paho_client import OurClient
from edge.delivery.reasons import NO_QOS, UNSUPPORTED_VERSION, Kind, of_connection, of_topic
from edge.delivery.reports import Acknowledged, Connected, Ended, Granted, Opened, Received, Report
from edge.delivery.tcp import open_tcp
from edge.delivery.unreachable import why_unreachable
from edge.errors import BrokerError
from edge.printable import shortened
from edge.settings.schema import MqttSettings

logger = logging.getLogger("edge.delivery")

OPENED_WITHIN_S = 90.0  # longer than looking up a name with dead name servers, and trying its addresses
CONNECT_TIMEOUT_S = 3.0  # for TCP with each of the broker's addresses, and for TLS
NETWORK_WAIT_S = 1.0  # the network thread's longest sleep before it checks whether the connection is still wanted
MAX_PACKET_BYTES = 8 << 20  # the broker does not deliver larger messages (MQTT 5 only)
MAX_REASON = 100  # characters of a broker's own explanation


class Connection:
    """Connects in the thread "mqtt" and reports until `Ended`.

    Args:
        settings: the `[mqtt]` section.
        client_id: the same for each connection, so that the broker ends a half-open predecessor.
        will: topic on which the broker publishes `offline` when the connection is lost; "" for none.
        report: called from the network thread; must not block or raise.
        keep_will: whether the broker is to keep that `offline` as a retained message.
    """

    def __init__(
        self,
        settings: MqttSettings,
        client_id: str,
        will: str,
        report: Callable[[Report], None],
        *,
        keep_will: bool = True,
    ) -> None:
        self._settings, self._client_id, self._report = settings, client_id, report
        self._will, self._keep_will = will, keep_will
        self._accepted = False
        self._client: Client | None = None
        self._unwanted = threading.Event()
        self._end = Ended("The broker closed the connection.")
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, correlation: bytes = b""
    ) -> int | None:
        """Send a message, in MQTT 5 with correlation data.

        Returns:
            The message id that its PUBACK will name, or None: not connected, or nothing can be published on this topic.
        """
        # paho would keep what is published while it is not connected, without a limit.
        client, properties = self._client, None
        if client is None or not client.is_connected():
            return None
        if correlation and self._settings.version == 5:
            properties = _properties(PacketTypes.PUBLISH, CorrelationData=correlation)
        try:
            info = client.publish(topic, payload, qos, retain, properties)
        except ValueError:
            return None
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribe to topics; `Granted` answers."""
        client = self._client
        if client is not None and client.is_connected():
            client.subscribe([(topic, 1) for topic in topics])

    def disconnect(self) -> None:
        """End the connection with a DISCONNECT, so that the broker does not publish the will."""
        self._end = Ended("Disconnected.")
        if (client := self._client) is not None:
            client.disconnect()

    def abandon(self, why: str) -> None:
        """Close the socket without a DISCONNECT, because a half-open connection would not carry it."""
        self._end = Ended(why)
        self._unwanted.set()
        # Wakes the network thread from its select().
        if (client := self._client) is not None and isinstance(open_socket := client.socket(), socket.socket):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)

    def join(self, timeout_s: float) -> bool:
        """Wait for the network thread; returns whether it has ended or was never started."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        settings, client = self._settings, None
        try:
            client = self._make_client()
            limits = _properties(PacketTypes.CONNECT, MaximumPacketSize=MAX_PACKET_BYTES)
            client.connect(
                *(settings.host, settings.port, settings.keepalive_s),
                properties=limits if settings.version == 5 else None,
            )
            self._client = client
            self._serve(client)
        except BrokerError as error:
            self._end = Ended(str(error), denied=True)
        except (OSError, ValueError) as error:  # a host name that cannot be encoded is a UnicodeError
            self._end = Ended(why_unreachable(error, settings))
        finally:
            if client is not None and (open_socket := client.socket()) is not None:
                open_socket.close()
            # The client and our callbacks refer to each other: its sockets would wait for the garbage collector.
            self._client = None
            self._report(self._end)

    def _serve(self, client: Client) -> None:
        code = MQTTErrorCode.MQTT_ERR_SUCCESS
        try:
            while not self._unwanted.is_set() and code == MQTTErrorCode.MQTT_ERR_SUCCESS:
                # paho pings after the keep-alive and up to one wait, and brokers wait 1.5 times the keep-alive.
                code = client.loop(min(NETWORK_WAIT_S, client.keepalive / 4))
        except Exception:  # malformed: paho 2.2 returns the code, and 2.1 raises whatever its parser meets
            logger.debug("A packet cannot be read.", exc_info=True)
            code = MQTTErrorCode.MQTT_ERR_PROTOCOL
        if code == MQTTErrorCode.MQTT_ERR_PROTOCOL and not self._unwanted.is_set():
            where, version = self._settings.address, self._settings.version
            sentence = f"The answer of the broker at {where} is not MQTT {version}"
            # Small brokers answer a CONNECT of MQTT 5 with a CONNACK of MQTT 3.1.1.
            reason = 0 if self._accepted else UNSUPPORTED_VERSION
            self._end = Ended(f"{sentence}; check mqtt.url, its port and mqtt.version.", code=reason)

    def _make_client(self) -> Client:
        settings, five = self._settings, self._settings.version == 5
        client = OurClient(
            self._open_tcp,
            client_id=self._client_id,
            clean_session=None if five else True,
            protocol=MQTTv5 if five else MQTTv311,
            reconnect_on_failure=False,
        )
        client.max_inflight_messages_set(0)  # the link has a window; paho's searches all messages at each PUBACK
        if self._will:
            client.will_set(self._will, b"offline", qos=1, retain=self._keep_will)
        if settings.username:
            client.username_pw_set(settings.username, read_password(settings.password_file))
        if settings.tls:
            client.tls_set_context(tls_context(settings))
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_publish, client.on_subscribe = self._on_publish, self._on_subscribe
        client.on_message = self._on_message
        # With this callback publish() leaves the writing to the network thread. Two threads that write can interleave
        # the bytes of two packets.
        client.on_socket_register_write = lambda *_: None
        return client

    def _open_tcp(self) -> socket.socket:
        settings = self._settings
        opened = open_tcp(
            *(settings.host, settings.port, CONNECT_TIMEOUT_S), wanted=lambda: not self._unwanted.is_set()
        )
        self._report(Opened())
        return opened

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        where, limits = self._settings.address, read_limits(properties)
        if reason.is_failure:
            why, meaning = _why(reason, properties), of_connection(reason.value)
            sentence = f"The broker at {where} refuses us ({why}); {meaning.advice}."
            self._end = Ended(sentence, denied=meaning.kind is Kind.FINAL, code=reason.value)
            self._unwanted.set()
        elif limits.qos == 0:
            sentence = f"The broker at {where} takes QoS 0 only; {of_connection(NO_QOS).advice}."
            self._end = Ended(sentence, denied=True, code=NO_QOS)
            self._unwanted.set()
        else:
            self._accepted = True
            # The shorter of ours and the broker's. paho before 2.2 ignores the broker's, later ones ours; its setter
            # refuses to change an open connection.
            client._keepalive = min(self._settings.keepalive_s, limits.keep_alive_s or self._settings.keepalive_s)
            self._report(Connected(limits))

    def _on_publish(self, client: Client, userdata: Any, mid: int, reason: ReasonCode, properties: Any) -> None:
        meaning = of_topic(reason.value)
        why = f"{_why(reason, properties)}, 0x{reason.value:02x}" if reason.is_failure else ""
        self._report(Acknowledged(mid, why, meaning.kind, meaning.advice))

    def _on_subscribe(self, client: Client, userdata: Any, mid: int, reasons: list[ReasonCode], _: object) -> None:
        refused = [f"{reason}; {of_topic(reason.value).advice}" if reason.is_failure else "" for reason in reasons]
        self._report(Granted(tuple(refused)))

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        asked = message.properties
        where, correlation = getattr(asked, "ResponseTopic", ""), getattr(asked, "CorrelationData", b"")
        self._report(Received(message.topic, bytes(message.payload), message.retain, where, correlation))

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if self._unwanted.is_set():
            return  # `abandon` or a refused CONNACK has set `_end` already
        where = self._settings.address
        if flags.is_disconnect_packet_from_server:
            meaning = of_connection(reason.value)
            sentence = f"The broker at {where} ended the connection ({_why(reason, properties)}); {meaning.advice}."
            denied = meaning.kind is Kind.FINAL
            self._end = Ended(sentence, denied=denied, by_broker=True, code=reason.value)
        elif reason.is_failure and not self._accepted:
            sentence = f"The broker at {where} closed the connection without an answer; check mqtt.url and its port."
            if self._settings.tls:
                sentence += " It may demand a client certificate (mqtt.cert_file)."
            if self._settings.version == 5:
                sentence += ' RabbitMQ before 3.13 needs mqtt.version = "3.1.1".'
            self._end = Ended(sentence)
        elif reason.is_failure:
            sentence = f"The connection to the broker at {where} is lost; check it and the network."
            self._end = Ended(sentence, by_broker=True)


def _why(reason: ReasonCode, properties: Any) -> str:
    """The reason's name, with what the broker adds to it."""
    added = [getattr(properties, name, "") for name in ("ReasonString", "ServerReference")]
    text = ": ".join([str(reason), *filter(None, added)])
    return shortened(text, MAX_REASON)


def _properties(packet: int, **values: object) -> Properties:
    properties = Properties(packet)  # type: ignore[no-untyped-call]  # paho's class has no types
    for name, value in values.items():
        setattr(properties, name, value)
    return properties
