"""The part of a box that answers requests, without camera and model, and a client that sends requests."""

import json
import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.errors import BundleError, BusyError
from edge.events import Classification, Label
from edge.frames import Frame, Pixels
from edge.interfaces.home_assistant import discovery_payload
from edge.interfaces.mqtt_requests import MqttRequests
from edge.interfaces.requests import RequestHandler
from edge.settings.schema import MqttSettings
from edge.status.recent import Recent
from tests.broker import Mosquitto
from tests.faults.stand_in_broker import StandIn
from tests.strangers_decoder import DECODER

WAIT_S = 20.0
BASE = "edge/porch/"


class Asker:
    """A client that publishes requests and records the answers with their properties."""

    def __init__(self, broker: Mosquitto) -> None:
        self.answers: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_message = lambda client, userdata, message: self.answers.put(message)
        subscribed = queue.Queue[bool]()
        self._client.on_subscribe = lambda *_: subscribed.put(True)
        self._client.connect(broker.address, broker.port)
        self._client.loop_start()
        self._client.subscribe([(BASE + "response/#", 1), ("my/answers", 1)])
        assert subscribed.get(timeout=WAIT_S)

    def send(self, topic: str, payload: object = b"", *, retain: bool = False, **properties: object) -> None:
        extra = Properties(PacketTypes.PUBLISH)
        for name, value in properties.items():
            setattr(extra, name, value)
        content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._client.publish(topic, content, qos=1, retain=retain, properties=extra).wait_for_publish(WAIT_S)

    def ask(self, name: str, payload: object = b"", **properties: object) -> dict[str, Any]:
        self.send(f"{BASE}request/{name}", payload, **properties)
        answer: dict[str, Any] = json.loads(self.answers.get(timeout=WAIT_S).payload)
        return answer

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Camera(Recent):
    """Always has a grey frame, or never has one."""

    delivers = True

    def frame(self, max_age_s: float, timeout_s: float) -> Frame | None:
        return Frame(np.full((480, 1280, 3), 90, np.uint8), 0, 0) if self.delivers else None


class Done:
    """Records what the requests changed."""

    def __init__(self) -> None:
        self.camera = Camera()
        self.reloads = 0
        self.changes: list[tuple[float | None, float | None]] = []
        self.busy = False
        self.used: list[str] = []
        self.gauges: dict[str, str] = {}
        self.mqtt: MqttRequests
        self.requests = RequestHandler(
            self.camera,
            DECODER.decode,
            self._classify,
            reload=self._reload,
            change=lambda *values: self.changes.append(values),
            running=lambda: "new-int8-000000",
            use=self._use,
            rollback=lambda: self._use("old-int8-000000"),
        )

    def _reload(self) -> None:
        self.reloads += 1

    def _use(self, name: str) -> str:
        if name == "wrong-int8-000000":
            raise BundleError("It answers its golden photo wrongly; export it again.")
        if name == "large-int8-000000":
            raise MemoryError
        self.used.append(name)
        return name

    def _classify(self, pixels: Pixels) -> Any:
        if self.busy:
            raise BusyError("Too many photos are waiting for the model; ask again in a moment.")
        answer: Future[Classification] = Future()
        top = (Label("dog", 70.0, 1), Label("owl", 15.0, 2), Label("cat", 10.0, 0))
        probabilities = np.array([0.1, 0.7, 0.15], np.float32)
        labels = ["cat", "dog", "owl"]
        answer.set_result(Classification(top, "fake-int8-000000", {"inference": 1.0}, probabilities, labels))
        return answer


@contextmanager
def box(
    broker: Mosquitto | StandIn,
    folder: Path,
    device: str = "porch",
    jitter: Callable[[], float] = lambda: 0.0,
    clock: Callable[[], float] = time.monotonic,
    **more: Any,
) -> Iterator[Done]:
    settings = MqttSettings(url=broker.url, **more)
    done = Done()
    announcement = discovery_payload(settings, device, "1.2.3", "Raspberry Pi 4", 30.0)
    started = MqttRequests(
        *(settings, device, announcement),
        handle=done.requests.handle,
        snapshot=done.requests.snapshot,
        identity=folder / "mqtt-topics.json",
        gauge=done.gauges.update,
        jitter=jitter,
        clock=clock,
    )
    done.mqtt = started
    started.start()
    try:
        yield done
    finally:
        assert started.stop(WAIT_S)
