"""What a connection to the broker reports to its link."""

from __future__ import annotations

from typing import NamedTuple

from edge.delivery.limits import Limits
from edge.delivery.reasons import Kind


class Opened(NamedTuple):
    """The name is looked up and the TCP connection is open; TLS and the CONNACK follow."""


class Connected(NamedTuple):
    """A CONNACK that accepts us, and the limits that it states."""

    limits: Limits = Limits()


class Acknowledged(NamedTuple):
    """A PUBACK; `reason` says why the broker refused the message, "" if it accepted it."""

    mid: int
    reason: str = ""
    kind: Kind = Kind.TAKEN
    advice: str = ""  # the end of a sentence


class Granted(NamedTuple):
    """A SUBACK; for each topic in order why the broker refuses the subscription, "" if it grants it."""

    reasons: tuple[str, ...]


class Received(NamedTuple):
    """A message on a subscribed topic; `retained` ones were published before the subscription."""

    topic: str
    payload: bytes
    retained: bool
    response_topic: str = ""  # this and the next from MQTT 5 only
    correlation: bytes = b""


class Ended(NamedTuple):
    """The last report: the connection could not be made, or it is over."""

    sentence: str
    denied: bool = False  # another attempt within seconds would fail too
    by_broker: bool = False  # the broker or the network closed it
    code: int = 0  # the broker's reason (reasons.py); 0: it gave none


Report = Opened | Connected | Acknowledged | Granted | Received | Ended
