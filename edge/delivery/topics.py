"""The MQTT topics and the client id of a box; docs/design.md lists what each topic carries."""

from __future__ import annotations

from edge.settings.schema import MqttSettings

STATES = ("camera/availability", "prediction", "status", "availability")  # retained; sent in this order, `online` last


def topic_prefix(settings: MqttSettings, device: str) -> str:
    """What all topics of a box begin with, except those of Home Assistant."""
    return f"{settings.base}/{device}/"


def identity(device: str) -> str:
    """How Home Assistant knows the box."""
    return f"edge-classifier-{device}"


def client_id(settings: MqttSettings, device: str, suffix: str = "") -> str:
    """How the broker knows a connection of this box; of two connections with one id it ends the older one."""
    return (settings.client_id or identity(device)) + suffix


def birth_topic(settings: MqttSettings) -> str:
    """Where Home Assistant publishes that it has started."""
    return f"{settings.discovery_prefix}/status"


def discovery_topic(settings: MqttSettings, device: str) -> str:
    """Where Home Assistant looks for the box; an empty retained message there removes it."""
    return f"{settings.discovery_prefix}/device/edge-classifier-{device.replace('.', '_')}/config"


def subscriptions(settings: MqttSettings, device: str) -> list[str]:
    """What the box subscribes to."""
    return [topic_prefix(settings, device) + "request/+", birth_topic(settings)]


def retained_topics(settings: MqttSettings, device: str) -> list[str]:
    """Every topic on which the broker keeps a message of the box."""
    return [discovery_topic(settings, device), *(topic_prefix(settings, device) + name for name in STATES)]
