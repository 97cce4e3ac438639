"""The broker: it takes us, its access list lets us work, and no other box goes by our name.

All of it under client ids of doctor's own: with the daemon's, the broker would throw the daemon out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from edge.board import host
from edge.commands.doctor_checks.finding import Finding, service_runs, unit_property
from edge.errors import BrokerError, EdgeClassifierError
from edge.settings.schema import FallbackSettings, MqttSettings

if TYPE_CHECKING:
    from edge.delivery.blocking_client import BlockingClient

LISTEN_S = 12.0  # a box tells its status each 10 s
# Where we may write below our own name without anybody taking it for an event or a state.
PROBES = ("doctor", "camera/doctor", "response/doctor")
NO_BROKER = "not looked at: there is no broker to ask"


def _connected(mqtt: MqttSettings, device: str) -> AbstractContextManager[BlockingClient]:
    from edge.delivery.blocking_client import connected
    from edge.delivery.topics import client_id

    return connected(mqtt, client_id(device, "-doctor"))


def broker(mqtt: MqttSettings, device: str) -> Finding:
    """It is reachable, and takes us with our user, password and certificate."""
    try:
        with _connected(mqtt, device):
            return Finding("broker", "ok", f"{mqtt.address} takes us")
    except EdgeClassifierError as error:
        return Finding("broker", "warning", str(error))


def access(mqtt: MqttSettings, device: str, fallback: FallbackSettings) -> Finding:
    """Its access list lets us write below our own name and hear our requests.

    What is written is empty and not retained, on topics of doctor's own: an event of doctor's would be believed. So a
    list that names single topics is known only by what it refused to the daemon, which the fallback log remembers.
    """
    from edge.delivery.topics import birth_topic, subscriptions, topic_prefix

    prefix, topics = topic_prefix(mqtt, device), subscriptions(mqtt, device)
    remedy = (
        f"Let our user write {prefix}# and read {prefix}request/# and {birth_topic(mqtt)}; see deploy/mosquitto/acl."
    )
    if (refused := _refused_events(fallback)) is not None:
        return Finding("access", "warning", f"The broker refused events that wait on disk: {refused}", remedy)
    told = "The broker at {} refuses {}: {}"
    try:
        with _connected(mqtt, device) as talk:
            for topic in PROBES:
                if reason := talk.publish(prefix + topic, b""):
                    sentence = told.format(mqtt.address, prefix + topic, reason)
                    return Finding("access", "warning", sentence, remedy)
            for topic, reason in zip(topics, talk.subscribe(topics), strict=False):
                if reason:
                    return Finding("access", "warning", told.format(mqtt.address, topic, reason), remedy)
    except EdgeClassifierError:
        return Finding("access", "warning", NO_BROKER)
    if mqtt.version != 5:
        return Finding("access", "ok", "not known: MQTT 3.1.1 cannot tell what a broker refuses")
    return Finding("access", "ok", f"we may write below {prefix} and subscribe to our requests")


def twin(
    mqtt: MqttSettings,
    device: str,
    *,
    boot: str = "",
    listen_s: float = LISTEN_S,
    runs: Callable[[], bool] = service_runs,
) -> Finding:
    """No other box goes by our name: two with one id throw each other out for ever.

    It is told by the boot in the statuses that come while we listen; a retained one may be our own of an earlier boot.

    Args:
        boot: ours, if it is not this machine's.
        listen_s: how long to listen.
        runs: whether our own daemon runs, and so has a status to be heard.
    """
    remedy = f"Give each box a device.name of its own; {device} is also the name of another."
    status = unit_property("StatusText")
    if "Another client" in status:
        return Finding("twin", "warning", status.partition("| ")[2] or status, remedy)
    boot, heard = boot or host.boot_id(), set()
    try:
        for seen, retained in _boots(mqtt, device, listen_s):
            heard.add(seen)
            if seen not in ("", boot) and not retained:
                other = f"Another box says that it is {mqtt.base}/{device}: its boot is {seen}, ours is {boot}."
                return Finding("twin", "warning", other, remedy)
    except EdgeClassifierError:
        return Finding("twin", "warning", NO_BROKER)
    if not heard and runs():
        deaf = f"Not known: the broker lets us hear nothing of {mqtt.base}/{device}/status."
        return Finding("twin", "warning", deaf, "Let our user read it; see deploy/mosquitto/acl.")
    return Finding("twin", "ok", f"no other box called {device} spoke in {listen_s:.0f} s")


def _boots(mqtt: MqttSettings, device: str, listen_s: float) -> Iterator[tuple[str, bool]]:
    """The boot in each status that comes ("" from a version that did not tell), and whether it is a retained one."""
    from edge.delivery.connection import Received

    with _connected(mqtt, device) as talk:
        talk.subscribe([f"{mqtt.base}/{device}/status"])
        until = time.monotonic() + listen_s
        while (left_s := until - time.monotonic()) > 0:
            try:
                message = talk.next(Received, left_s)
                document = json.loads(message.payload)
            except (BrokerError, ValueError):  # nothing more came, or it is no status of ours
                continue
            if isinstance(document, dict):
                yield str(document.get("boot", "")), message.retained


def _refused_events(fallback: FallbackSettings) -> str | None:
    """What the broker said of the events that it refused; None: nothing, or the log is not ours to read."""
    from edge.delivery.inspect import summarise

    try:
        refused = summarise(fallback.path, fallback.max_bytes).refused
    except EdgeClassifierError:
        return None
    return ", ".join(f"{count} with {reason}" for reason, count in refused.items()) or None
