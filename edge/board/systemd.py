"""The daemon's side of systemd: sd_notify(3) messages, credentials, and logging to the journal."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.board import foreign_logs
from edge.printable import escaped

LOGGER_NAME = "edge"
CREDENTIAL_MQTT_PASSWORD = "mqtt-password"
CREDENTIALS_SOURCE = Path("/etc/edge-classifier")  # LoadCredential= in the unit's drop-in; only root can read it


class Notifier:
    """Sends sd_notify(3) messages; a no-op where `NOTIFY_SOCKET` is not set.

    systemd-python would do the same, but it has to be compiled; it is therefore optional.

    Args:
        environment: where `NOTIFY_SOCKET` and `WATCHDOG_USEC` are looked up.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ means the zero byte of an abstract socket.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        if self._socket is not None:
            # Without a timeout, a full socket that systemd does not read would block the daemon.
            self._socket.settimeout(1.0)
        self._status = ""
        for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environment.get("WATCHDOG_USEC", "0")
        #: Seconds between two `watchdog` messages, a third of systemd's limit; None without a watchdog.
        self.watchdog_interval_s = int(usec) / 1e6 / 3 if for_us and usec.isdigit() and int(usec) else None

    def ready(self, status: str) -> None:
        """The service has started, or a reload has ended; `status` is the line that `systemctl status` shows."""
        self._status = status
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, line: str) -> None:
        """Set the line that `systemctl status` shows; sent only when it has changed."""
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def watchdog(self) -> None:
        """Feed the watchdog. Only the loop that checks every stage may call this."""
        self._send("WATCHDOG=1")

    def reloading(self, monotonic_us: int) -> None:
        """A reload begins; `ready` ends it. Type=notify-reload requires the time."""
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
            # systemd may be restarting. If messages fail for longer, its watchdog restarts the daemon.
            logging.getLogger(LOGGER_NAME).debug("sd_notify failed: %s", error)


def credential(
    name: str, environment: Mapping[str, str] = os.environ, source: Path = CREDENTIALS_SOURCE
) -> Path | None:
    """The file of a systemd credential (LoadCredential=), or None if there is none or it is not readable.

    Outside the service, as in `sudo edge-classifier doctor`, this is the file that systemd would load.
    """
    path = Path(environment.get("CREDENTIALS_DIRECTORY") or source, name)
    return path if os.access(path, os.R_OK) else None


def set_up_logging(level: str, environment: Mapping[str, str] = os.environ) -> None:
    """Log to journald where standard error is the journal, otherwise readable lines to standard error.

    What libraries log follows the same way, see `foreign_logs.py`.

    With python3-systemd an entry of the journal has the fields PRIORITY, LOGGER, THREAD_NAME and CODE_*; without
    it, PRIORITY alone.
    """
    logger = logging.getLogger(LOGGER_NAME)
    logger.handlers[:] = [_handler(environment)]
    logger.propagate = False
    logger.setLevel(level.upper())
    foreign_logs.take_over()


def _handler(environment: Mapping[str, str]) -> logging.Handler:
    formatter: logging.Formatter = _PriorityFormatter()
    if not _writes_to_journal(environment):
        # Without a terminal (a file, a container's log) the reader adds the time.
        form = "%(asctime)s %(levelname)-7s %(message)s" if sys.stderr.isatty() else "%(levelname)s %(message)s"
        formatter = _LineFormatter(form, datefmt="%H:%M:%S")
    else:
        with contextlib.suppress(ImportError):
            journal: Any = importlib.import_module("systemd.journal")  # optional: it has to be compiled
            to_journal: logging.Handler = journal.JournalHandler(SYSLOG_IDENTIFIER="edge-classifier")
            to_journal.setFormatter(_LineFormatter())
            return to_journal
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    return handler


def _writes_to_journal(environment: Mapping[str, str]) -> bool:
    """Whether standard error is the stream that systemd connected to the journal.

    The variable alone is not enough: child processes inherit it, also where their output goes elsewhere.
    """
    try:
        here = os.fstat(2)
    except OSError:  # it is closed
        return False
    return environment.get("JOURNAL_STREAM") == f"{here.st_dev}:{here.st_ino}"


class _LineFormatter(logging.Formatter):
    """Writes a message as one line, because strangers choose parts of some, and a traceback as lines without escapes.

    Besides `\n`, the journal and programs that read it take characters such as U+2028 as the end of a line, and a
    terminal takes others as commands.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        return "\n".join(escaped(line) for line in super().formatException(ei).split("\n"))


class _PriorityFormatter(_LineFormatter):
    """Puts the priority before each line, as the journal reads it; see sd-daemon(3)."""

    def format(self, record: logging.LogRecord) -> str:
        level = record.levelno
        priority = 7 if level < logging.INFO else 6 if level < logging.WARNING else 4 if level < logging.ERROR else 3
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).split("\n"))
