"""`edge-classifier forget`: removes a box's retained messages from the broker, so that it no longer appears there."""

from __future__ import annotations

import argparse

from edge.errors import BrokerError
from edge.settings.schema import Settings

HELP = "remove this box's retained messages from the broker"
DESCRIPTION = """\
A broker keeps the newest state of a box even after the box is gone. This
removes what it keeps below <base>/<device>/ and for Home Assistant. Use it
before a box is taken away, and after a box was renamed: then give its old
name with --device.

Stop the daemon first; otherwise it publishes everything again."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    parser.add_argument("--device", metavar="NAME", help="whose messages (default: device.name)")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Publish an empty retained message, which clears it, on each retained topic.

    Raises:
        BrokerError: the broker cannot be reached, refuses, or does not answer.
    """
    from edge.delivery.blocking_client import connected
    from edge.delivery.topics import client_id, retained_topics

    device, address = arguments.device or settings.device.name, settings.mqtt.address
    with connected(settings.mqtt, client_id(settings.mqtt, device, "-forget")) as client:
        for topic in retained_topics(settings.mqtt, device):
            if reason := client.publish(topic, b"", retain=True):
                raise BrokerError(f"The broker at {address} refuses: {reason}; see deploy/mosquitto/acl.")
    print(f"The broker at {address} keeps nothing of {device} any more.")
    return 0
