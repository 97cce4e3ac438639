"""The reason codes with which a broker refuses or ends something (MQTT 5, 2.4), and what each means for the box.

Look here for whether a refusal is tried again within seconds, and for the advice that the log and the status give.
paho translates the return codes of MQTT 3.1.1 into these.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple


class Kind(Enum):
    """What a reason code means for the next attempt."""

    TAKEN = auto()  # the broker has the message
    UNHEARD = auto()  # the broker takes the message, but nobody subscribes to its topic
    BROKER = auto()  # the broker as a whole is away for now: try again soon
    LATER = auto()  # a limit is reached for now: try again in a few seconds
    MESSAGE = auto()  # this message is refused; the next one may be accepted
    FINAL = auto()  # a person has to change something


class Reason(NamedTuple):
    """What a code means; `advice` is the end of a sentence."""

    kind: Kind
    advice: str


UNHEARD = 0x10
UNSUPPORTED_VERSION = 0x84
TAKEN_OVER = 0x8E
TOO_LARGE = 0x95
NO_RETAIN = 0x9A
NO_QOS = 0x9B

ACCESS = "check its access list"
OWN_NAME = "give each box a device.name of its own, and a mqtt.client_id of its own if that is set"
_LOGIN = "check mqtt.username, its password and the broker's access list"
_LIMIT = "it is tried again in a few seconds; raise the broker's limit if this lasts"
_BUG = "read the broker's log, and report it as a bug of edge-classifier"
_MOVED = "set mqtt.url to the broker that it names"
_TOPICS = "check mqtt.base and mqtt.discovery_prefix"
_SIZE = "raise its limit for the size of a packet"
_CONTENT = "read its log for what it expects"
_AGAIN = "it is tried again"
_QUEUE = "a queue of the broker may be full; " + _LIMIT

#: Of a whole connection: CONNACK and DISCONNECT.
_OF_CONNECTION = {
    0x80: Reason(Kind.LATER, "it gives no reason; read its log"),  # unspecified error
    0x81: Reason(Kind.FINAL, _BUG),  # malformed packet
    0x82: Reason(Kind.FINAL, _BUG),  # protocol error
    0x83: Reason(Kind.LATER, "read its log"),  # implementation specific error
    UNSUPPORTED_VERSION: Reason(Kind.FINAL, "set mqtt.version to one that it speaks"),
    0x85: Reason(Kind.FINAL, "set mqtt.client_id to an id that it allows"),  # client identifier not valid
    0x86: Reason(Kind.FINAL, _LOGIN),  # bad user name or password
    0x87: Reason(Kind.FINAL, _LOGIN),  # not authorized
    0x88: Reason(Kind.BROKER, _AGAIN),  # server unavailable
    0x89: Reason(Kind.BROKER, _AGAIN),  # server busy
    0x8A: Reason(Kind.FINAL, "ask its administrator to lift the ban of this box"),  # banned
    0x8B: Reason(Kind.BROKER, _AGAIN),  # server shutting down
    0x8C: Reason(Kind.FINAL, "let it accept a user with a password, or a client certificate"),  # bad authentication
    0x8D: Reason(Kind.LATER, "check the network, or raise mqtt.keepalive_s"),  # keep alive timeout
    TAKEN_OVER: Reason(Kind.FINAL, OWN_NAME),
    0x8F: Reason(Kind.FINAL, _TOPICS),  # topic filter invalid
    0x90: Reason(Kind.FINAL, _TOPICS),  # topic name invalid
    0x93: Reason(Kind.LATER, _BUG),  # receive maximum exceeded
    0x94: Reason(Kind.FINAL, _BUG),  # topic alias invalid
    TOO_LARGE: Reason(Kind.MESSAGE, _SIZE),
    0x96: Reason(Kind.LATER, _LIMIT),  # message rate too high
    0x97: Reason(Kind.LATER, _LIMIT),  # quota exceeded
    0x98: Reason(Kind.LATER, "its administrator has closed the connection"),  # administrative action
    0x99: Reason(Kind.MESSAGE, _CONTENT),  # payload format invalid
    NO_RETAIN: Reason(Kind.LATER, "the box goes on without retained messages"),
    NO_QOS: Reason(Kind.FINAL, "let it take QoS 1, because QoS 0 acknowledges nothing and events would be lost"),
    0x9C: Reason(Kind.FINAL, _MOVED),  # use another server
    0x9D: Reason(Kind.FINAL, _MOVED),  # server moved
    0x9E: Reason(Kind.FINAL, _BUG),  # shared subscriptions not supported
    0x9F: Reason(Kind.LATER, _LIMIT),  # connection rate exceeded
    0xA0: Reason(Kind.BROKER, _AGAIN),  # maximum connect time
    0xA1: Reason(Kind.FINAL, _BUG),  # subscription identifiers not supported
    0xA2: Reason(Kind.FINAL, "let it take subscriptions with +"),  # wildcard subscriptions not supported
}

#: Of one message or subscription: PUBACK and SUBACK.
_OF_TOPIC = {
    UNHEARD: Reason(Kind.UNHEARD, "subscribe to it"),
    0x80: Reason(Kind.MESSAGE, "it gives no reason; check its access list and its log"),  # unspecified error
    0x83: Reason(Kind.LATER, _QUEUE),  # implementation specific error
    0x87: Reason(Kind.FINAL, ACCESS),  # not authorized
    0x8F: Reason(Kind.FINAL, _TOPICS),  # topic filter invalid
    0x90: Reason(Kind.FINAL, _TOPICS),  # topic name invalid
    0x91: Reason(Kind.LATER, "it is tried again in a few seconds"),  # packet identifier in use
    TOO_LARGE: Reason(Kind.MESSAGE, _SIZE),
    0x96: Reason(Kind.LATER, _LIMIT),  # message rate too high
    0x97: Reason(Kind.LATER, _QUEUE),  # quota exceeded
    0x99: Reason(Kind.MESSAGE, _CONTENT),  # payload format invalid
    0x9E: Reason(Kind.FINAL, _BUG),  # shared subscriptions not supported
    0xA2: Reason(Kind.FINAL, "let it take subscriptions with +"),  # wildcard subscriptions not supported
}
_UNKNOWN_OF_CONNECTION = Reason(Kind.FINAL, "read its log")
_UNKNOWN_OF_TOPIC = Reason(Kind.MESSAGE, "read its log")


def of_connection(code: int) -> Reason:
    """What a code in a CONNACK or DISCONNECT means; 0: the connection ended without one."""
    if not code:
        return Reason(Kind.BROKER, _AGAIN)
    return _OF_CONNECTION.get(code, _UNKNOWN_OF_CONNECTION)


def of_topic(code: int) -> Reason:
    """What a code in a PUBACK or SUBACK means."""
    if code < 0x80 and code != UNHEARD:
        return Reason(Kind.TAKEN, "")
    return _OF_TOPIC.get(code, _UNKNOWN_OF_TOPIC)
