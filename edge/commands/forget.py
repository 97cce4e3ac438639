"""`edge-classifier forget`: clear what the broker keeps of this box, so that no ghost stays behind."""

from __future__ import annotations

import argparse
import queue
import time

from edge.errors import BrokerError
from edge.settings.schema import Settings

HELP = "clear this box's retained messages at the broker"
DESCRIPTION = """\
A broker keeps the newest state of a box for ever. This clears what it keeps
below <base>/<device>/ and for Home Assistant, which is wanted before a box is
taken away, and after it was renamed: then give the old name with --device.

Stop the daemon first, or it says everything anew."""
WITHIN_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    parser.add_argument("--device", metavar="NAME", help="whose messages (default: device.name)")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Publish an empty retained message, which clears it, on each retained topic.

    Raises:
        BrokerError: the broker cannot be reached, refuses, or does not answer.
    """
    from edge.delivery.connection import Acknowledged, Connected, Connection, Ended, Report
    from edge.interfaces.home_assistant import discovery_topic, state_topics

    device = arguments.device or settings.device.name
    prefix = f"{settings.mqtt.base}/{device}/"
    where = f"{settings.mqtt.host}:{settings.mqtt.port}"
    topics = [*state_topics(settings.mqtt, device), discovery_topic(settings.mqtt, device)]
    reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
    connection = Connection(settings.mqtt, f"edge-classifier-{device}-forget", prefix + "availability", reports.put)
    connection.start()
    unanswered: set[int | None] = set()
    until = time.monotonic() + WITHIN_S
    try:
        while True:
            match reports.get(timeout=max(0.0, until - time.monotonic())):
                case Connected():
                    unanswered = {connection.publish(topic, b"", True) for topic in topics}
                case Acknowledged(reason=reason) if reason:
                    raise BrokerError(f"The broker at {where} refuses: {reason}; see deploy/mosquitto/acl.")
                case Acknowledged(mid=mid):
                    unanswered.discard(mid)
                    if not unanswered:
                        break
                case Ended(sentence=sentence):
                    raise BrokerError(sentence)
    except queue.Empty as error:
        raise BrokerError(f"The broker at {where} did not answer within {WITHIN_S:.0f} s; try again.") from error
    finally:
        connection.disconnect()
        connection.join(5.0)
    print(f"The broker at {where} keeps nothing of {device} any more.")
    return 0
