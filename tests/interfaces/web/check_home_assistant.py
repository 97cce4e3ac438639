"""Home Assistant's own schemas over what a box announces; run by hand, because the package takes minutes to install.

python3.13 -m venv ha && ha/bin/pip install homeassistant paho-mqtt==2.1.0
mosquitto_sub -C 1 -t 'homeassistant/device/+/config' | ha/bin/python tests/interfaces/web/check_home_assistant.py
"""

import asyncio
import json
import sys
import tempfile
from importlib import import_module
from typing import Any


def faults(payload: dict[str, Any]) -> list[str]:
    """What Home Assistant refuses, and what it would ignore silently; empty if all is well."""
    schemas = import_module("homeassistant.components.mqtt.schemas")
    invalid = import_module("voluptuous").Invalid
    try:
        schemas.DEVICE_DISCOVERY_SCHEMA(payload)
    except invalid as error:
        return [f"the device: {error}"]
    found = []
    shared = {key: payload[key] for key in (*schemas.SHARED_OPTIONS, "qos", "encoding") if key in payload}
    for name, component in payload["components"].items():
        platform = import_module(f"homeassistant.components.mqtt.{component['platform']}")
        config = shared | component | {"device": payload["device"], "origin": payload["origin"]}
        del config["platform"]
        try:
            known = platform.DISCOVERY_SCHEMA(config)
        except invalid as error:
            found.append(f"{name}: {error}")
        else:
            found += [f"{name}: {key} is unknown to it" for key in sorted(set(config) - set(known))]
    return found


async def main() -> None:
    """Check the announcement on standard input."""
    payload = json.load(sys.stdin)
    version = import_module("homeassistant.const").__version__
    with tempfile.TemporaryDirectory() as folder:
        hass = import_module("homeassistant.core").HomeAssistant(folder)  # what templates are compiled for
        import_module("homeassistant.helpers.frame").async_setup(hass)
        found = faults(payload)
        await hass.async_stop(force=True)
    if found:
        raise SystemExit("\n".join([f"Home Assistant {version} refuses it:", *found]))
    print(f"Home Assistant {version} accepts the device and its {len(payload['components'])} entities.")


if __name__ == "__main__":
    asyncio.run(main())
