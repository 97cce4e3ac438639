"""From an event to a PUBACK, or to the fallback log on disk until there is one."""

from edge.delivery.delivery import Delivery

__all__ = ["Delivery"]
