"""How Home Assistant learns of the box: one device with its entities, in one retained message."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from edge.settings.schema import MqttSettings

logger = logging.getLogger("edge.delivery")

URL = "https://github.com/edge-classifier/edge-classifier"


def discovery_topic(settings: MqttSettings, device: str) -> str:
    """Where the device is announced; an empty retained message there removes it."""
    return f"{settings.discovery_prefix}/device/edge-classifier-{device.replace('.', '_')}/config"


def state_topics(settings: MqttSettings, device: str) -> list[str]:
    """Every topic on which the box leaves something retained."""
    names = ("availability", "camera/availability", "prediction", "status")
    return [f"{settings.base}/{device}/{name}" for name in names]


def discovery_payload(settings: MqttSettings, device: str, version: str, board: str, heartbeat_s: float) -> bytes:
    """The device and its entities.

    Args:
        heartbeat_s: how often the state is said again; an entity that hears nothing for longer expires.
    """
    prefix = f"{settings.base}/{device}"
    identity = f"edge-classifier-{device}"
    document = {
        "device": {
            "identifiers": [identity],
            "name": device,
            "manufacturer": "edge-classifier",
            "model": board or "camera box",
            "sw_version": version,
        },
        "origin": {"name": "edge-classifier", "sw_version": version, "support_url": URL},
        "qos": 1,
        "components": {
            key: {"unique_id": f"{identity}-{key}", **component}
            for key, component in _components(prefix, heartbeat_s, settings.snapshot_every_s > 0).items()
        },
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _components(prefix: str, heartbeat_s: float, with_camera: bool) -> dict[str, dict[str, Any]]:
    box = {"topic": f"{prefix}/availability"}
    alive = {"availability": [box]}
    # A box that is up without a camera has no label.
    seeing = {"availability": [box, {"topic": f"{prefix}/camera/availability"}], "availability_mode": "all"}
    expire_after = int(heartbeat_s * 2) + 10
    components: dict[str, dict[str, Any]] = {
        "label": {
            "platform": "sensor",
            "name": "Label",
            "icon": "mdi:eye",
            "state_topic": f"{prefix}/prediction",
            "value_template": "{{ value_json.label }}",
            "json_attributes_topic": f"{prefix}/prediction",
            "json_attributes_template": "{{ {'top': value_json.top, 'model': value_json.model} | tojson }}",
            "expire_after": expire_after,
            **seeing,
        },
        "confidence": {
            "platform": "sensor",
            "name": "Confidence",
            "icon": "mdi:percent",
            "state_topic": f"{prefix}/prediction",
            "value_template": "{{ value_json.top[0].confidence }}",
            "unit_of_measurement": "%",
            "state_class": "measurement",
            "expire_after": expire_after,
            **seeing,
        },
        "temperature": {
            "platform": "sensor",
            "device_class": "temperature",
            "state_class": "measurement",
            "unit_of_measurement": "°C",
            "entity_category": "diagnostic",
            "state_topic": f"{prefix}/status",
            # None, which is "unknown", where none is told.
            "value_template": "{{ value_json.get('temperature_celsius') }}",
            **alive,
        },
        "problem": {
            "platform": "binary_sensor",
            "device_class": "problem",
            "entity_category": "diagnostic",
            "state_topic": f"{prefix}/status",
            # A box that has just started has not told them all, and Home Assistant warns of each that is missing.
            "value_template": "{{ 'ON' if value_json.get('throttled') or value_json.get('under_voltage')"
            " or value_json.get('camera_error') or value_json.get('log_error') else 'OFF' }}",
            **alive,
        },
        "connectivity": {
            "platform": "binary_sensor",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": f"{prefix}/availability",
            "payload_on": "online",
            "payload_off": "offline",
        },
    }
    if with_camera:
        components["camera"] = {"platform": "camera", "name": "Camera", "topic": f"{prefix}/snapshot", **seeing}
    return components


def is_wild(topic: str) -> bool:
    """Whether nothing can be published there."""
    return not topic or any(character in topic for character in "+#\0")


def read_topics(file: Path) -> list[str]:
    """Under which topics the box was known; none where nothing is remembered."""
    try:
        topics = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    known = isinstance(topics, list) and all(isinstance(one, str) and not is_wild(one) for one in topics)
    return topics if known else []


def write_topics(file: Path, topics: list[str]) -> None:
    """Remember under which topics the box is known."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(topics), encoding="utf-8")
    except OSError as error:
        logger.warning("%s cannot be written (%s); a renamed box would leave its old topics behind.", file, error)
