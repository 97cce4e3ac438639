"""From an event to a PUBACK, or to the fallback log on disk until there is one."""
