"""Requests over MQTT, Home Assistant's discovery and the `snapshot` topic, on one connection of their own.

Its client id is `edge-classifier-<device>-remote`. It is separate from the events' connection: an access list that
forbids one of these topics must not end the events' connection, and a flood of requests must not fill its window. Look
here when the box does not answer, or does not appear in Home Assistant; requests.py has what a request does.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from edge.delivery.link import Call, Link
from edge.delivery.reasons import Kind
from edge.delivery.reports import Acknowledged, Granted, Received
from edge.delivery.topics import birth_topic, client_id, discovery_topic, retained_topics, subscriptions, topic_prefix
from edge.errors import RequestError
from edge.interfaces.json_document import parse_json
from edge.interfaces.known_topics import KnownTopics
from edge.printable import shortened
from edge.repeating_fault import RepeatingFault
from edge.settings.schema import MqttSettings

logger = logging.getLogger("edge.interfaces.mqtt_requests")

MAX_REQUEST_BYTES = 4 << 20  # a photo in base64
MAX_WAITING = 8  # requests
MAX_ANSWERS = 1000  # that wait for the broker; requests beyond these are dropped without an answer
MAX_TRANSACTION = 64  # characters
MAX_NAME = 64  # characters; the topic of an answer to a longer one may be too long
ANNOUNCE_EVERY_S = 600.0  # so that what others retain on the topic of the discovery does not stay
ANNOUNCE_WITHIN_S = 5.0  # the boxes answer Home Assistant's birth message at random times, not all at once
SUBSCRIBE_AGAIN_S = 60.0  # after the broker refused a subscription
CLOSE_WITHIN_S = 0.3
BIRTH = b"online"
OTHER_TOPIC = "choose a response topic that is not one of its own or of the discovery, without wildcards"


class _Answer(NamedTuple):
    topic: str
    payload: bytes
    correlation: bytes


class MqttRequests:
    """Owns the threads "mqtt-requests", which owns the link, and "requests", which does the requests one by one.

    Args:
        device: the box's name.
        announcement: the discovery document.
        handle: carries out a request (its name, its document); returns the fields of the answer, raises RequestError.
        snapshot: the newest frame as JPEG, or None; called every `mqtt.snapshot_every_s` seconds.
        identity: a file with the topics under which the box was known, so that those of a former name are removed.
        gauge: takes `discovery_error`, a sentence or "", for the status.
        jitter: a random number in 0..1.
        clock: monotonic seconds.
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
        gauge: Callable[..., None] = lambda **_: None,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._announcement = announcement
        self._known_topics = KnownTopics(identity, retained_topics(settings, device))
        self._handle, self._snapshot, self._snapshot_every_s = handle, snapshot, settings.snapshot_every_s
        self._gauge, self._jitter, self._clock = gauge, jitter, clock
        self._prefix, self._birth_topic = topic_prefix(settings, device), birth_topic(settings)
        self._discovery_topic = discovery_topic(settings, device)
        self._discovery_prefix = f"{settings.discovery_prefix}/"
        self._subscriptions = subscriptions(settings, device)
        self._requests: queue.Queue[Received | None] = queue.Queue(MAX_WAITING)
        self._inbox: queue.SimpleQueue[Call] = queue.SimpleQueue()  # calls for "mqtt-requests" to make
        self._stopping = threading.Event()
        # Of the thread "mqtt-requests":
        self._answers: deque[_Answer] = deque()
        self._unannounced: dict[str, bytes] = {}  # retained topic → payload; what the broker has not accepted yet
        self._announce_at = float("inf")  # when to answer Home Assistant's birth message
        self._subscribe_at = float("inf")
        self._connection_fault, self._subscription_fault = RepeatingFault(logger), RepeatingFault(logger)
        our_id = client_id(settings, device, "-remote")
        self._link = Link(settings, our_id, self, will="", post=self._inbox.put, clock=clock)
        self._threads = [
            threading.Thread(target=self._run, name="mqtt-requests", daemon=True),
            threading.Thread(target=self._work, name="requests", daemon=True),
        ]

    def start(self) -> None:
        """Start; returns at once, whatever the broker does."""
        for thread in self._threads:
            thread.start()

    def announce(self, announcement: bytes) -> None:
        """Announce the box anew, because something in its discovery document has changed; from any thread."""
        self._inbox.put(partial(self._announce, announcement))

    def stop(self, timeout_s: float) -> bool:
        """End both threads; False when one has not ended in time."""
        deadline = time.monotonic() + timeout_s
        self._stopping.set()
        self._inbox.put(lambda: None)  # wakes the thread
        with contextlib.suppress(queue.Full):  # then the thread is not waiting
            self._requests.put_nowait(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    # --- the thread "mqtt-requests" ---

    def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(queue.Empty):
                self._inbox.get(timeout=self._wait_s())()
            self._link.tick()
            self._send()
        self._link.close(CLOSE_WITHIN_S)

    def _wait_s(self) -> float:
        due = min(self._link.due, self._announce_at if self._link.idle else float("inf"))
        return max(0.0, min(1.0, due - self._clock()))

    def _announce(self, announcement: bytes) -> None:
        if announcement != self._announcement:
            self._announcement = announcement
            self._announce_at = self._clock()

    def _subscribe(self) -> None:
        self._subscribe_at = float("inf")
        self._link.subscribe(self._subscriptions, granted=self._subscribed, received=self._received)

    def _subscribed(self, granted: Granted) -> None:
        if not (reasons := sorted(set(filter(None, granted.reasons)))):
            self._subscription_fault.over("The broker grants the subscriptions again.")
            return
        self._subscription_fault.happened(
            f"The broker refuses the subscription to {' or '.join(self._subscriptions)}, so requests do not arrive: "
            f"{'; '.join(reasons)}."
        )
        self._subscribe_at = self._clock() + SUBSCRIBE_AGAIN_S

    def _received(self, message: Received) -> None:
        if message.topic == self._birth_topic:
            if message.payload == BIRTH:
                self._announce_at = self._clock() + ANNOUNCE_WITHIN_S * self._jitter()
            return
        # A retained request was sent before this connection and is out of date.
        if message.retained or len(self._name(message)) > MAX_NAME:
            return
        try:
            self._requests.put_nowait(message)
        except queue.Full:
            if len(self._answers) < MAX_ANSWERS:
                self._answers.append(self._answer(message, _error("Too many requests wait; ask again in a moment.")))

    def _send(self) -> None:
        """Announcements first, one at a time, so that the reason of a refusal arrives before the broker disconnects."""
        if self._clock() >= self._subscribe_at:
            self._subscribe()
        if self._link.idle and self._clock() >= self._announce_at:
            self._announce_at = float("inf")
            self._unannounced[self._discovery_topic] = self._announcement
        topic = next(filter(self._link.allows, self._unannounced), None)
        if topic is not None:
            if self._link.idle and self._link.takes(topic):
                self._link.send(topic, self._unannounced[topic], partial(self._announced, topic), retain=True)
            return
        while self._answers and self._link.online:
            answer = self._answers[0]
            if self._link.allows(answer.topic):
                if not self._link.takes(answer.topic):
                    return
                if reason := self._link.too_large(answer.topic, answer.payload, answer.correlation):
                    sentence = f"The answer is too large for the broker ({reason})."
                    error = _dumps(_error(sentence, json.loads(answer.payload)["transaction"]))
                    answer = answer._replace(payload=error)
                self._link.send(answer.topic, answer.payload, correlation=answer.correlation)
            self._answers.popleft()

    def _announced(self, topic: str, answer: Acknowledged) -> None:
        """Remember the topics once every announcement is accepted; a refused one is sent again when it is allowed."""
        if topic == self._discovery_topic:
            advice = f"let it write {topic}, see deploy/mosquitto/acl" if answer.kind is Kind.FINAL else answer.advice
            sentence = f"The box does not appear in Home Assistant, because the broker refuses it ({answer.reason}); "
            self._gauge(discovery_error=sentence + advice + "." if answer.reason else "")
            self._announce_at = min(self._announce_at, self._clock() + ANNOUNCE_EVERY_S)
        if answer.reason and answer.kind is not Kind.MESSAGE:
            return
        if self._unannounced.pop(topic, None) is None or answer.reason or self._unannounced:
            return
        self._known_topics.remember()

    # --- called by the link ---

    def connected(self) -> None:
        """Subscribe, then announce the device and clear what its former names left retained."""
        self._subscribe()
        self._answers.clear()
        former = dict.fromkeys(self._known_topics.former(), b"")
        self._unannounced = {**former, self._discovery_topic: self._announcement}

    def works(self) -> None:
        """Log that requests arrive again after a refused connection."""
        self._connection_fault.over("Requests and Home Assistant's discovery work again.")

    def ended(self, sentence: str, *, denied: bool) -> None:
        """Log a refused connection only: the events' link logs that the broker is away."""
        if denied:
            self._connection_fault.happened(f"Requests and Home Assistant's discovery wait: {sentence}")

    def learned(self, sentence: str) -> None:
        """Do nothing: the events' link logs what the broker restricts."""

    def _name(self, message: Received) -> str:
        return message.topic.removeprefix(self._prefix + "request/")

    def _answer(self, request: Received, document: dict[str, Any]) -> _Answer:
        topic = f"{self._prefix}response/{self._name(request)}"
        if request.response_topic and self._may_answer_on(request.response_topic):
            topic = request.response_topic
        return _Answer(topic, _dumps(document), request.correlation)

    def _may_answer_on(self, topic: str) -> bool:
        """Whether an answer cannot be taken for something else that the box publishes, nor forge a line of the log."""
        ours = topic.startswith((self._prefix, self._discovery_prefix)) and not topic.startswith(
            self._prefix + "response/"
        )
        return topic.isprintable() and not ours and not topic.startswith("$") and not {"+", "#"} & set(topic)

    # --- the thread "requests" ---

    def _work(self) -> None:
        every_s = self._snapshot_every_s
        snapshot_at = time.monotonic() + every_s if every_s else float("inf")
        while not self._stopping.is_set():
            if (now := time.monotonic()) >= snapshot_at:
                snapshot_at = now + every_s
                if (picture := self._snapshot()) is not None:
                    self._inbox.put(partial(self._link.send_unacknowledged, self._prefix + "snapshot", picture))
            with contextlib.suppress(queue.Empty):
                request = self._requests.get(timeout=max(0.0, snapshot_at - now) if every_s else None)
                if request is not None:
                    self._inbox.put(partial(self._answers.append, self._answer(request, self._do(request))))

    def _do(self, request: Received) -> dict[str, Any]:
        transaction: Any = None
        try:
            document = _parse(request.payload)
            transaction = document.pop("transaction", None)
            if not isinstance(transaction, (str, int, type(None))) or len(str(transaction)) > MAX_TRANSACTION:
                transaction = None
                raise RequestError(f"transaction has to be a text or a number of at most {MAX_TRANSACTION} characters.")
            if request.response_topic and not self._may_answer_on(request.response_topic):
                refused = shortened(request.response_topic, MAX_TRANSACTION)
                raise RequestError(f"The box does not answer on {refused}; {OTHER_TOPIC}.")
            result = self._handle(self._name(request), document)
        except RequestError as error:
            return _error(str(error), transaction)
        return {"status": "ok", "transaction": transaction, **result}


def _error(sentence: str, transaction: object = None) -> dict[str, Any]:
    return {"status": "error", "transaction": transaction, "error": sentence}


def _dumps(document: dict[str, Any]) -> bytes:
    # In ASCII: a transaction may hold half a surrogate pair, which JSON can write and UTF-8 cannot.
    return json.dumps(document, separators=(",", ":")).encode()


def _parse(payload: bytes) -> dict[str, Any]:
    if len(payload) > MAX_REQUEST_BYTES:
        raise RequestError(f"The request has {len(payload)} bytes; send at most {MAX_REQUEST_BYTES}.")
    try:
        document = parse_json(payload or b"{}")
    except ValueError as error:
        raise RequestError(f"The request is not JSON ({error}); send an object or nothing at all.") from error
    if not isinstance(document, dict):
        raise RequestError("The request is not a JSON object; send an object or nothing at all.")
    return document
