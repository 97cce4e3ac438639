"""The limits that a broker states in its CONNACK (MQTT 5, 3.2.2.3), and whether a message is within them."""

from __future__ import annotations

from typing import NamedTuple

from paho.mqtt.properties import Properties

UNLIMITED = 65535  # the receive maximum of a CONNACK without one
LARGEST_PACKET = 268_435_460  # of any MQTT packet: four bytes can state no greater length


class Limits(NamedTuple):
    """What a broker takes; the defaults are those of a CONNACK that states nothing, and of MQTT 3.1.1."""

    receive_maximum: int = UNLIMITED  # unacknowledged messages at once
    packet_bytes: int = LARGEST_PACKET
    qos: int = 2
    retain: bool = True
    keep_alive_s: int = 0  # the longest that it waits for a packet; 0: as long as ours
    client_id: str = ""  # instead of ours

    def sentence(self) -> str:
        """What the box does without because of these limits, "" if nothing."""
        parts = []
        if not self.retain:
            parts.append("It keeps no retained messages, so a new subscriber sees a state only when it changes.")
        if self.packet_bytes < LARGEST_PACKET:
            parts.append(f"It takes packets of at most {self.packet_bytes} bytes.")
        return " ".join(parts)


def read_limits(properties: Properties | None) -> Limits:
    """The limits in the properties of a CONNACK; None in MQTT 3.1.1, which has no properties."""
    none = Limits()
    return Limits(
        receive_maximum=max(1, getattr(properties, "ReceiveMaximum", none.receive_maximum)),
        packet_bytes=getattr(properties, "MaximumPacketSize", none.packet_bytes),
        qos=getattr(properties, "MaximumQoS", none.qos),
        retain=bool(getattr(properties, "RetainAvailable", none.retain)),
        keep_alive_s=getattr(properties, "ServerKeepAlive", none.keep_alive_s),
        client_id=getattr(properties, "AssignedClientIdentifier", none.client_id),
    )


def packet_bytes(topic: str, payload: bytes, correlation: bytes = b"") -> int:
    """The size of a PUBLISH with QoS 1 in MQTT 5; at most four bytes more than it takes on the wire."""
    properties = 1 + (3 + len(correlation) if correlation else 0) + (3 if len(correlation) > 124 else 0)
    fixed_header, topic_length, message_id = 5, 2, 2
    return fixed_header + topic_length + len(topic.encode()) + message_id + properties + len(payload)
