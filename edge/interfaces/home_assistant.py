"""Home Assistant's discovery document: the box as one device with its entities, in one retained message."""

from __future__ import annotations

import json
from typing import Any

from edge.delivery.topics import identity, topic_prefix
from edge.settings.schema import MqttSettings

URL = "https://github.com/edge-classifier/edge-classifier"


def discovery_payload(settings: MqttSettings, device: str, version: str, board: str, heartbeat_s: float) -> bytes:
    """The device and its entities.

    Args:
        heartbeat_s: how often the state is published; after twice this time without one an entity expires.
    """
    identifier = identity(device)
    components = _components(topic_prefix(settings, device), heartbeat_s, settings.snapshot_every_s > 0)
    document = {
        "device": {
            "identifiers": [identifier],
            "name": device,
            "manufacturer": "edge-classifier",
            "model": board or "camera box",
            "sw_version": version,
        },
        "origin": {"name": "edge-classifier", "sw_version": version, "support_url": URL},
        "qos": 1,
        "components": {key: {"unique_id": f"{identifier}-{key}", **entity} for key, entity in components.items()},
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _components(prefix: str, heartbeat_s: float, with_camera: bool) -> dict[str, dict[str, Any]]:
    availability = {"topic": prefix + "availability"}
    # Without a camera there is no label, although the box is online.
    both = {"availability": [availability, {"topic": prefix + "camera/availability"}], "availability_mode": "all"}
    prediction = {
        "platform": "sensor",
        "state_topic": prefix + "prediction",
        "expire_after": int(heartbeat_s * 2) + 10,
        **both,
    }
    diagnostic = {"entity_category": "diagnostic", "state_topic": prefix + "status", "availability": [availability]}
    components: dict[str, dict[str, Any]] = {
        "label": {
            "name": "Label",
            "icon": "mdi:eye",
            "value_template": "{{ value_json.label }}",
            "json_attributes_topic": prefix + "prediction",
            "json_attributes_template": "{{ {'top': value_json.top, 'model': value_json.model} | tojson }}",
            **prediction,
        },
        "confidence": {
            "name": "Confidence",
            "icon": "mdi:percent",
            "value_template": "{{ value_json.top[0].confidence }}",
            "unit_of_measurement": "%",
            "state_class": "measurement",
            **prediction,
        },
        "temperature": {
            "platform": "sensor",
            "device_class": "temperature",
            "state_class": "measurement",
            "unit_of_measurement": "°C",
            # None, which Home Assistant shows as "unknown", if the status has no temperature.
            "value_template": "{{ value_json.get('temperature_celsius') }}",
            **diagnostic,
        },
        "problem": {
            "platform": "binary_sensor",
            "device_class": "problem",
            # `get`: soon after the start some keys are missing, and Home Assistant warns of each missing key.
            "value_template": "{{ 'ON' if value_json.get('throttled') or value_json.get('under_voltage')"
            " or value_json.get('camera_error') or value_json.get('log_error') else 'OFF' }}",
            **diagnostic,
        },
        "connectivity": {
            "platform": "binary_sensor",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": prefix + "availability",
            "payload_on": "online",
            "payload_off": "offline",
        },
    }
    if with_camera:
        components["camera"] = {"platform": "camera", "name": "Camera", "topic": prefix + "snapshot", **both}
    return components
