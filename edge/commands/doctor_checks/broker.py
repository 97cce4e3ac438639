"""Checks of the broker: it accepts us, its access list allows what we need, and no other box has our name.

They use client ids of their own: with the daemon's, the broker would disconnect the daemon.
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

LISTEN_S = 12.0  # a box publishes its status each 10 s
# Topics below our own name that no program reads as an event or a state.
PROBES = ("doctor", "camera/doctor", "response/doctor")
NO_BROKER = "not checked: there is no broker to ask"


def _connected(mqtt: MqttSettings, device: str) -> AbstractContextManager[BlockingClient]:
    from edge.delivery.blocking_client import connected
    from edge.delivery.topics import client_id

    return connected(mqtt, client_id(mqtt, device, "-doctor"))


def broker(mqtt: MqttSettings, device: str) -> Finding:
    """Whether the broker can be reached and accepts our user, password and certificate."""
    try:
        with _connected(mqtt, device):
            return Finding("broker", "ok", f"{mqtt.address} accepts us")
    except EdgeClassifierError as error:
        return Finding("broker", "warning", str(error), _outer_space(mqtt))


def _outer_space(mqtt: MqttSettings) -> str:
    """A hint if the password begins or ends with a space, which editors do not show; else ""."""
    from edge.delivery.credentials import read_password

    try:
        password = read_password(mqtt.password_file) or ""
    except BrokerError:  # which the finding reports
        return ""
    if password == password.strip():
        return ""
    return "The password begins or ends with a space, which is a part of it; remove it from the file if it is none."


def access(mqtt: MqttSettings, device: str, fallback: FallbackSettings) -> Finding:
    """Whether the access list allows us to write below our own name and to subscribe to our requests.

    Only empty messages on topics of doctor's own are published, since readers would take any other for a real event.
    An access list that allows these and refuses events shows only in the refusals that the fallback log recorded.
    """
    from edge.delivery.topics import birth_topic, subscriptions, topic_prefix

    prefix, topics = topic_prefix(mqtt, device), subscriptions(mqtt, device)
    remedy = (
        f"Let our user write {prefix}# and read {prefix}request/# and {birth_topic(mqtt)}; see deploy/mosquitto/acl."
    )
    if (refused := _refused_events(fallback)) is not None:
        return Finding("access", "warning", f"The broker refused events that wait on disk: {refused}", remedy)
    try:
        with _connected(mqtt, device) as client:
            version = client.version
            for topic, reason in _answers(client, [prefix + probe for probe in PROBES], topics):
                if reason:
                    sentence = f"The broker at {mqtt.address} refuses {topic}: {reason}"
                    return Finding("access", "warning", sentence, remedy)
    except EdgeClassifierError:
        return Finding("access", "warning", NO_BROKER)
    if version != 5:
        return Finding("access", "ok", "not known: with MQTT 3.1.1 a broker cannot report what it refuses")
    return Finding("access", "ok", f"we may write below {prefix} and subscribe to our requests")


def _answers(client: BlockingClient, published: list[str], subscribed: list[str]) -> Iterator[tuple[str, str]]:
    """Each topic that is published on or subscribed to, and the broker's reason for a refusal, or ""."""
    for topic in published:
        yield topic, client.publish(topic, b"")
    yield from zip(subscribed, client.subscribe(subscribed), strict=False)


def twin(
    mqtt: MqttSettings,
    device: str,
    *,
    boot: str = "",
    listen_s: float = LISTEN_S,
    runs: Callable[[], bool] = service_runs,
) -> Finding:
    """Whether another box has our name: the broker disconnects a client when another connects with its id.

    Another box is recognised by the boot id in its status; a retained status may be our own from an earlier boot.

    Args:
        boot: our boot id; empty for this machine's.
        listen_s: how long to listen.
        runs: whether our own daemon runs, and therefore publishes a status.
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
                other = f"Another box publishes as {mqtt.base}/{device}: its boot id is {seen}, ours is {boot}."
                return Finding("twin", "warning", other, remedy)
    except EdgeClassifierError:
        return Finding("twin", "warning", NO_BROKER)
    if not heard and runs():
        sentence = f"Not known: the broker sends us nothing of {mqtt.base}/{device}/status."
        return Finding("twin", "warning", sentence, "Let our user read it; see deploy/mosquitto/acl.")
    return Finding("twin", "ok", f"no other box called {device} published in {listen_s:.0f} s")


def _boots(mqtt: MqttSettings, device: str, listen_s: float) -> Iterator[tuple[str, bool]]:
    """The boot id in each status that arrives ("" from a version without one), and whether the message is retained."""
    from edge.delivery.reports import Received
    from edge.delivery.topics import topic_prefix

    with _connected(mqtt, device) as client:
        client.subscribe([topic_prefix(mqtt, device) + "status"])
        until = time.monotonic() + listen_s
        while (left_s := until - time.monotonic()) > 0:
            try:
                message = client.next(Received, left_s)
                document = json.loads(message.payload)
            except (BrokerError, ValueError):  # nothing more arrived, or it is not a status
                continue
            if isinstance(document, dict):
                yield str(document.get("boot", "")), message.retained


def _refused_events(fallback: FallbackSettings) -> str | None:
    """How many events the broker refused, with its reasons; None if it refused none, or the log cannot be read."""
    from edge.delivery.inspect import summarise

    try:
        refused = summarise(fallback.path, fallback.max_bytes).refused
    except EdgeClassifierError:
        return None
    return ", ".join(f"{count} with {reason}" for reason, count in refused.items()) or None
