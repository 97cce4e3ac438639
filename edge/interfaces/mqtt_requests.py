"""The box's second connection: announces the device, takes requests, answers them.

It is a connection of its own because an access list that forbids one of these topics must not end the
connection that events take, and because a flood of requests must not use up its window.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.backoff import Backoff
from edge.delivery.broker import DENIED_CAP_S, RETRY_CAP_S, RETRY_FIRST_S
from edge.delivery.connection import CONNECT_TIMEOUT_S, NETWORK_WAIT_S, read_password, refusal, tls_context
from edge.errors import BrokerError, RequestError
from edge.interfaces.home_assistant import discovery_topic, is_wild, read_topics, state_topics, write_topics
from edge.repeating_fault import RepeatingFault
from edge.settings.schema import MqttSettings

logger = logging.getLogger("edge.delivery")

MAX_REQUEST_BYTES = 4 << 20  # a photo in base64
MAX_PACKET_BYTES = 2 * MAX_REQUEST_BYTES  # what is larger the broker keeps to itself (MQTT 5), so it is not answered
MAX_WAITING = 8
MAX_TRANSACTION = 64  # characters
MAX_NAME = 64  # characters; of a longer one the topic of the answer may be too long
ANNOUNCE_WITHIN_S = 5.0  # every box answers Home Assistant's birth message; not all at once
ACKNOWLEDGED_WITHIN_S = 5.0
STEADY_S = 10.0  # a connection that lasted longer was one; the next is tried at once
BIRTH = b"online"


class Request(NamedTuple):
    """One request as it came."""

    name: str
    payload: bytes
    response_topic: str  # MQTT 5; "" for response/<name>
    correlation: bytes


class Remote:
    """Owns the threads "remote", which handles one request after the other, and "remote-mqtt".

    Args:
        device: the box's name.
        announcement: the discovery document.
        handle: does what a request (its name and its document) asks, returns what to answer; raises RequestError.
        snapshot: the newest frame as JPEG, or None; called each `mqtt.snapshot_every_s`.
        identity: a file that remembers under which topics the box was known, to remove their ghosts.
    """

    def __init__(
        self,
        settings: MqttSettings,
        device: str,
        announcement: bytes,
        *,
        handle: Callable[[str, dict[str, Any]], Mapping[str, Any]],
        snapshot: Callable[[], bytes | None],
        identity: Path,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._settings, self._device, self._announcement = settings, device, announcement
        self._handle, self._snapshot, self._identity, self._jitter = handle, snapshot, identity, jitter
        self._prefix = f"{settings.base}/{device}/"
        self._birth_topic = f"{settings.discovery_prefix}/status"
        self._requests: queue.Queue[Request] = queue.Queue(MAX_WAITING)
        self._stopping = threading.Event()
        self._announce_at = float("inf")  # monotonic seconds; set by the network thread, a float is atomic
        self._client: Client | None = None
        self._thread = threading.Thread(target=self._run, name="remote", daemon=True)
        self._network = threading.Thread(target=self._keep_connected, name="remote-mqtt", daemon=True)
        self._denied = ""  # why the last connection was not made, where trying again soon will not help
        self._waiting = RepeatingFault(logger)

    def start(self) -> None:
        """Start; returns at once, whatever the broker does."""
        self._network.start()
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """End both threads; False when one has not ended in time."""
        self._stopping.set()
        deadline = time.monotonic() + timeout_s
        if (client := self._client) is not None:
            client.disconnect()
        threads = self._thread, self._network
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    # --- the network thread: its callbacks only put things on queues ---

    def _keep_connected(self) -> None:
        backoff = Backoff(RETRY_FIRST_S, RETRY_CAP_S)
        while not self._stopping.is_set():
            began, self._denied = time.monotonic(), ""
            try:
                self._stay_connected()
            except BrokerError as error:
                self._denied = str(error)
            except (OSError, ValueError):
                pass  # the broker is away or its name is wrong: the connection of the events says so, with every detail
            finally:
                self._client = None
            if self._denied:
                self._waiting.happened(f"Requests and Home Assistant's discovery wait: {self._denied}")
            if time.monotonic() - began > STEADY_S:
                backoff.reset()
            self._stopping.wait(backoff.next_s(DENIED_CAP_S if self._denied else None))

    def _stay_connected(self) -> None:
        """One connection, by a client of its own: a password or certificate that was mended is read again."""
        client, limits = self._make_client(), None
        if self._settings.version == 5:
            limits = _properties(PacketTypes.CONNECT)
            limits.MaximumPacketSize = MAX_PACKET_BYTES
        try:
            client.connect(self._settings.host, self._settings.port, self._settings.keepalive_s, properties=limits)
            self._client = client
            while client.loop(NETWORK_WAIT_S) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                if self._stopping.is_set():  # before there was a client that stop() could disconnect
                    client.disconnect()
        finally:
            if (open_socket := client.socket()) is not None:
                open_socket.close()

    def _make_client(self) -> Client:
        settings, five = self._settings, self._settings.version == 5
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"edge-classifier-{self._device}-remote",
            clean_session=None if five else True,
            protocol=MQTTv5 if five else MQTTv311,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        # With this callback set the network thread alone writes; two writers can interleave the bytes of two packets.
        client.on_socket_register_write = lambda *_: None
        if settings.username:
            client.username_pw_set(settings.username, read_password(settings.password_file))
        if settings.tls:
            client.tls_set_context(tls_context(settings))
        client.on_connect, client.on_message, client.on_subscribe = (
            self._on_connect,
            self._on_message,
            self._on_subscribe,
        )
        return client

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._denied = refusal(self._settings, reason)
            return
        self._waiting.over("Requests and Home Assistant's discovery work again.")
        client.subscribe([(self._prefix + "request/+", 1), (self._birth_topic, 1)])
        self._announce_at = time.monotonic()

    def _on_subscribe(
        self, client: Client, userdata: Any, mid: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            logger.warning(
                "The broker does not let us hear %srequest/+ or %s; requests do not arrive. Check its access list.",
                *(self._prefix, self._birth_topic),
            )

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        if message.topic == self._birth_topic:
            if message.payload == BIRTH:
                self._announce_at = time.monotonic() + ANNOUNCE_WITHIN_S * self._jitter()
            return
        name = message.topic.removeprefix(self._prefix + "request/")
        if message.retain or len(name) > MAX_NAME:
            return  # it was meant for somebody some time ago, or for nobody
        properties = message.properties
        request = Request(
            name,
            bytes(message.payload),
            getattr(properties, "ResponseTopic", ""),
            getattr(properties, "CorrelationData", b""),
        )
        try:
            self._requests.put_nowait(request)
        except queue.Full:
            self._answer(request, _error("Too many requests wait; ask again in a moment.", None))

    # --- the thread "remote" ---

    def _run(self) -> None:
        every_s = self._settings.snapshot_every_s
        snapshot_at = time.monotonic() + every_s if every_s else float("inf")
        while not self._stopping.is_set():
            now = time.monotonic()
            if now >= self._announce_at:
                self._announce_at = float("inf")
                self._announce()
            if now >= snapshot_at:
                snapshot_at = now + every_s
                if (picture := self._snapshot()) is not None:
                    self._publish("snapshot", picture)
            try:
                request = self._requests.get(timeout=max(0.0, min(0.25, snapshot_at - now)))
            except queue.Empty:
                continue
            self._answer(request, self._do(request))

    def _do(self, request: Request) -> dict[str, Any]:
        transaction: Any = None
        try:
            document = _parse(request.payload)
            transaction = document.pop("transaction", None)
            if not isinstance(transaction, (str, int, type(None))) or len(str(transaction)) > MAX_TRANSACTION:
                transaction = None
                raise RequestError(f"transaction has to be a text or a number of at most {MAX_TRANSACTION} characters.")
            result = self._handle(request.name, document)
        except RequestError as error:
            return _error(str(error), transaction)
        return {"status": "ok", "transaction": transaction, **result}

    def _answer(self, request: Request, document: dict[str, Any]) -> None:
        properties = None
        if request.correlation and self._settings.version == 5:
            properties = _properties(PacketTypes.PUBLISH)
            properties.CorrelationData = request.correlation
        # In ASCII: a transaction may hold half a surrogate pair, which JSON can write and UTF-8 cannot.
        payload = json.dumps(document, separators=(",", ":")).encode()
        topic = request.response_topic or f"{self._prefix}response/{request.name}"
        client = self._client
        if client is not None and client.is_connected() and not is_wild(topic):
            with contextlib.suppress(ValueError):  # an answer that cannot be sent; the next request waits
                client.publish(topic, payload, qos=1, properties=properties)

    def _publish(self, name: str, payload: bytes) -> None:
        # paho would keep what is published while disconnected, without a bound.
        client = self._client
        if client is not None and client.is_connected():
            client.publish(self._prefix + name, payload, qos=0)

    def _announce(self) -> None:
        client = self._client
        if client is None or not client.is_connected():
            return
        topic = discovery_topic(self._settings, self._device)
        wanted = [topic, *state_topics(self._settings, self._device)]
        known = read_topics(self._identity)
        sent = [client.publish(ghost, b"", qos=1, retain=True) for ghost in known if ghost not in wanted]
        sent.append(client.publish(topic, self._announcement, qos=1, retain=True))
        try:
            for info in sent:
                info.wait_for_publish(ACKNOWLEDGED_WITHIN_S)
        except (RuntimeError, ValueError):  # the connection ended meanwhile; the next one announces again
            return
        if known != wanted and all(info.is_published() for info in sent):
            if len(sent) > 1:
                logger.info("Removed what the broker kept under this box's former name.")
            write_topics(self._identity, wanted)


def _properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]  # paho's class has no types


def _error(sentence: str, transaction: object) -> dict[str, Any]:
    return {"status": "error", "transaction": transaction, "error": sentence}


def _parse(payload: bytes) -> dict[str, Any]:
    if len(payload) > MAX_REQUEST_BYTES:
        raise RequestError(f"The request has {len(payload)} bytes; send at most {MAX_REQUEST_BYTES}.")
    try:
        document = json.loads(payload or b"{}")
    except (ValueError, RecursionError) as error:
        raise RequestError("The request is not JSON; send an object or nothing at all.") from error
    if not isinstance(document, dict):
        raise RequestError("The request is not a JSON object; send an object or nothing at all.")
    return document
