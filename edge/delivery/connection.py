"""One connection to the broker: a paho client of its own that is thrown away at the end.

paho resends what is in flight after a reconnect, before anybody can stop it; a new client has nothing to
resend. Its callbacks only put tuples on a queue: an exception there would kill the network thread.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paho.mqtt.client import (
    MQTT_CLEAN_START_FIRST_ONLY,
    Client,
    ConnectFlags,
    DisconnectFlags,
    MQTTMessage,
    MQTTv5,
    MQTTv311,
)
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.board.systemd import CREDENTIAL_MQTT_PASSWORD, credential
from edge.errors import BrokerError
from edge.settings.schema import MqttSettings

CONNECT_TIMEOUT_S = 3.0
NETWORK_WAIT_S = 1.0  # how long the network thread may sleep before it looks whether it is still wanted
UNLIMITED = 65535  # MQTT 5, 3.2.2.3.3: no receive maximum given
TAKEN_OVER = 0x8E
MESSAGE_REFUSALS = (0x95, 0x99)  # packet too large, payload format invalid: the next message may be taken


class Connected(NamedTuple):
    """The broker accepted us; it takes `receive_maximum` unacknowledged messages at once."""

    receive_maximum: int


class Acknowledged(NamedTuple):
    """A PUBACK; `reason` is "" or why the broker refused the message."""

    mid: int
    reason: str
    of_topic: bool = False  # whatever goes there next will be refused as well


class Granted(NamedTuple):
    """A SUBACK; the reasons are "" or why the broker refuses a subscription, in the order of the topics."""

    reasons: tuple[str, ...]


class Heard(NamedTuple):
    """A message on a topic that was subscribed to; `retained`: from before the subscription."""

    topic: str
    payload: bytes
    retained: bool


class Ended(NamedTuple):
    """The connection could not be made or is over; its last report."""

    sentence: str
    taken_over: bool = False  # another client came with our id
    denied: bool = False  # trying again soon will not help
    by_broker: bool = False  # there was a connection, and the other end closed it


Report = Connected | Acknowledged | Granted | Heard | Ended


class Connection:
    """Connects in the thread "mqtt" and reports through `report` until `Ended`.

    Args:
        settings: the `[mqtt]` section.
        client_id: the same at each connection, so that the broker ends a half-open predecessor.
        will: topic on which the broker publishes a retained `offline` when we vanish.
        report: called from the network thread; has to be as quick as putting something on a queue.
    """

    def __init__(self, settings: MqttSettings, client_id: str, will: str, report: Callable[[Report], None]) -> None:
        self._settings = settings
        self._client_id = client_id
        self._will = will
        self._report = report
        self._client: Client | None = None
        self._unwanted = threading.Event()
        self._end = Ended("The broker closed the connection.")
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    def publish(self, topic: str, payload: bytes, retain: bool) -> int | None:
        """Send with QoS 1; the message id under which it will be acknowledged, or None when not connected."""
        client = self._client
        if client is None or not client.is_connected():
            return None
        info = client.publish(topic, payload, qos=1, retain=retain)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def subscribe(self, topics: Sequence[str]) -> None:
        """Ask for messages on topics; `Granted` answers."""
        client = self._client
        if client is not None and client.is_connected():
            client.subscribe([(topic, 1) for topic in topics])

    def disconnect(self) -> None:
        """Say goodbye, so that the broker does not publish the will."""
        self._end = Ended("Disconnected.")
        if (client := self._client) is not None:
            client.disconnect()

    def abandon(self, why: str) -> None:
        """Drop the connection without a word: nobody listens at the other end of a half-open one."""
        self._end = Ended(why)
        self._unwanted.set()
        # Wakes the network thread from its select().
        if (client := self._client) is not None and isinstance(open_socket := client.socket(), socket.socket):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of the network thread."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        client = None
        try:
            client = self._make_client()
            client.connect(
                self._settings.host,
                self._settings.port,
                self._settings.keepalive_s,
                clean_start=True if self._settings.version == 5 else MQTT_CLEAN_START_FIRST_ONLY,
            )
            self._client = client
            while not self._unwanted.is_set() and client.loop(NETWORK_WAIT_S) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                pass
        except BrokerError as error:
            self._end = Ended(str(error), denied=True)
        except (OSError, ValueError) as error:  # a host name may be no name at all (UnicodeError)
            self._end = _failure(error, self._settings)
        finally:
            if client is not None and (open_socket := client.socket()) is not None:
                open_socket.close()
            # The client, which has our callbacks, would else wait for the garbage collector with its pair of sockets.
            self._client = None
            self._report(self._end)

    def _make_client(self) -> Client:
        settings = self._settings
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if settings.version == 5 else True,
            protocol=MQTTv5 if settings.version == 5 else MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        # Our own window is the limit: paho's searches all its messages at each PUBACK.
        client.max_inflight_messages_set(0)
        client.will_set(self._will, b"offline", qos=1, retain=True)
        if settings.username:
            client.username_pw_set(settings.username, read_password(settings.password_file))
        if settings.tls:
            client.tls_set_context(tls_context(settings))
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        # With this callback set publish() leaves the writing to the network thread; two writers can
        # interleave the bytes of two packets.
        client.on_socket_register_write = _leave_writing_to_the_network_thread
        return client

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._end = Ended(refusal(self._settings, reason), denied=True)
            self._unwanted.set()
        else:
            self._report(Connected(getattr(properties, "ReceiveMaximum", UNLIMITED)))

    def _on_publish(
        self, client: Client, userdata: Any, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            about_message = reason.value in MESSAGE_REFUSALS
            self._report(Acknowledged(mid, f"{reason}, 0x{reason.value:02x}", of_topic=not about_message))
        else:
            self._report(Acknowledged(mid, ""))

    def _on_subscribe(
        self, client: Client, userdata: Any, mid: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        self._report(Granted(tuple(str(reason) if reason.is_failure else "" for reason in reasons)))

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        self._report(Heard(message.topic, bytes(message.payload), message.retain))

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if self._unwanted.is_set():
            return  # the end is known already
        if flags.is_disconnect_packet_from_server:
            taken_over = reason.value == TAKEN_OVER
            self._end = Ended(
                f"The broker at {place(self._settings)} ended the connection ({reason}).", taken_over, by_broker=True
            )
        elif reason.is_failure:
            self._end = Ended(
                f"The connection to the broker at {place(self._settings)} is lost; check it and the network.",
                by_broker=True,
            )


def _leave_writing_to_the_network_thread(client: Client, userdata: Any, sock: Any) -> None:
    pass


def place(settings: MqttSettings) -> str:
    """Host and port, for people."""
    return f"{settings.host}:{settings.port}"


def refusal(settings: MqttSettings, reason: ReasonCode) -> str:
    """That the broker does not let us in, in one sentence that says what to do."""
    return (
        f"The broker at {place(settings)} refuses us ({reason}); check mqtt.username, its password "
        "and the broker's access list."
    )


def read_password(password_file: str) -> str | None:
    """The password from its file, else from systemd's credential, else None.

    Raises:
        BrokerError: the file cannot be read.
    """
    path = Path(password_file) if password_file else credential(CREDENTIAL_MQTT_PASSWORD)
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BrokerError(
            f"The broker's password cannot be read from {path} ({error}); check mqtt.password_file."
        ) from error


def tls_context(settings: MqttSettings) -> ssl.SSLContext:
    """Certificates as the settings name them.

    Raises:
        BrokerError: a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise BrokerError(
            f"The certificates for the broker cannot be loaded ({error}); check mqtt.ca_file, cert_file and key_file."
        ) from error
    return context


def _failure(error: Exception, settings: MqttSettings) -> Ended:
    """Why there is no connection, in one sentence that says what to do."""
    where = place(settings)
    match error:
        case ssl.SSLCertVerificationError():
            why = f"The broker's certificate at {where} is not accepted ({error.verify_message})"
            return Ended(f"{why}; check mqtt.ca_file, the certificate and this box's clock.")
        case ssl.SSLError():
            return Ended(f"TLS with the broker at {where} fails ({error.reason}); check mqtts:// and the certificates.")
        case socket.gaierror():
            return Ended(f"The broker's name {settings.host} is not known ({error.strerror}); check mqtt.url and DNS.")
        case TimeoutError():
            return Ended(f"The broker at {where} does not answer; check mqtt.url and the network.")
        case ConnectionRefusedError():
            return Ended(f"No broker listens at {where} (connection refused); start it or check mqtt.url.")
        case _:
            return Ended(f"The broker at {where} cannot be reached ({error}); check mqtt.url and the network.")
