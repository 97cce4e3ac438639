"""What systemd gives a service: readiness and watchdog messages, credentials, and structured log lines."""

from __future__ import annotations

import importlib
import logging
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOGGER_NAME = "edge"
CREDENTIAL_MQTT_PASSWORD = "mqtt-password"
CREDENTIALS_SOURCE = Path("/etc/edge-classifier")  # where the unit's drop-in loads them from; root alone can read them


class Notifier:
    """Sends sd_notify(3) messages; a no-op where `NOTIFY_SOCKET` is not set.

    A few lines instead of systemd-python, which has to be compiled and is therefore optional here.

    Args:
        environment: where `NOTIFY_SOCKET` and `WATCHDOG_USEC` are looked up.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of an abstract socket.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        if self._socket is not None:
            # Where systemd does not read for a while its socket fills up; the daemon must not stand still for it.
            self._socket.settimeout(1.0)
        self._status = ""
        for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environment.get("WATCHDOG_USEC", "0")
        #: Seconds between two feedings that satisfy the watchdog with room to spare, or None without one.
        self.watchdog_interval_s = int(usec) / 1e6 / 3 if for_us and usec.isdigit() and int(usec) else None

    def ready(self, status: str) -> None:
        """The service has started; `status` is its first line."""
        self._status = status
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, line: str) -> None:
        """What `systemctl status` shows; sent only when it changed."""
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def watchdog(self) -> None:
        """Feed the watchdog; only the loop that checks the stages may call this."""
        self._send("WATCHDOG=1")

    def reloading(self, monotonic_us: int) -> None:
        """A reload begins (Type=notify-reload wants the time); `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_us}")

    def stopping(self, status: str) -> None:
        """The service stops on purpose."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            # systemd restarting is no reason to end; if it stays away, its watchdog acts.
            logging.getLogger(LOGGER_NAME).debug("sd_notify failed: %s", error)


def credential(
    name: str, environment: Mapping[str, str] = os.environ, source: Path = CREDENTIALS_SOURCE
) -> Path | None:
    """The file of a systemd credential (LoadCredential=), or None where it was not given.

    Outside the service, as in `sudo edge-classifier doctor`, it is the file that systemd would load.
    """
    path = Path(environment.get("CREDENTIALS_DIRECTORY") or source, name)
    return path if os.access(path, os.R_OK) else None


def set_up_logging(level: str, environment: Mapping[str, str] = os.environ) -> None:
    """Log to journald with fields where the output is the journal, to readable lines elsewhere.

    A record's `extra={"fields": {"CAMERA": "…"}}` becomes journald fields, where Python's journal module is.
    """
    handler = None
    if _writes_to_journal(environment):
        handler = _journal_handler()
        if handler is None:
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(_PriorityFormatter())
    if handler is None:
        handler = logging.StreamHandler(sys.stderr)
        # Without a terminal (a plain journal, a file) the reader adds the time.
        form = "%(asctime)s %(levelname)-7s %(message)s" if sys.stderr.isatty() else "%(levelname)s %(message)s"
        handler.setFormatter(logging.Formatter(form, datefmt="%H:%M:%S"))
    logger = logging.getLogger(LOGGER_NAME)
    logger.handlers[:] = [handler]
    logger.propagate = False
    set_log_level(level)


def set_log_level(level: str) -> None:
    """Change the level while running, as SIGHUP does."""
    logging.getLogger(LOGGER_NAME).setLevel(level.upper())


def _writes_to_journal(environment: Mapping[str, str]) -> bool:
    """Whether standard error is what systemd connected to the journal; a child may inherit the variable alone."""
    try:
        here = os.fstat(2)
    except OSError:  # it is closed
        return False
    return environment.get("JOURNAL_STREAM") == f"{here.st_dev}:{here.st_ino}"


class _PriorityFormatter(logging.Formatter):
    """Puts before each line the priority that the journal takes from it, see sd-daemon(3)."""

    def format(self, record: logging.LogRecord) -> str:
        level = record.levelno
        priority = 7 if level < logging.INFO else 6 if level < logging.WARNING else 4 if level < logging.ERROR else 3
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


def _journal_handler() -> logging.Handler | None:
    try:
        journal: Any = importlib.import_module("systemd.journal")  # optional: has to be compiled
    except ImportError:
        return None

    class FieldHandler(journal.JournalHandler):  # type: ignore[misc]  # systemd-python has no types
        def emit(self, record: logging.LogRecord) -> None:
            # JournalHandler sends every attribute of a record whose name is in capitals as a field.
            vars(record).update(getattr(record, "fields", {}))
            super().emit(record)

    handler: logging.Handler = FieldHandler(SYSLOG_IDENTIFIER="edge-classifier")
    return handler
