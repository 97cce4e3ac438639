"""Expected failures. Each message is a sentence: what happened and what to do. Each class has an exit code.

Exit codes follow sysexits.h, so that scripts and `systemctl status` can distinguish the cases.
"""

from __future__ import annotations


class EdgeClassifierError(Exception):
    """An expected failure; the command line prints its message and ends with `exit_code`."""

    exit_code = 1


class ConfigError(EdgeClassifierError):
    """The configuration is missing, unreadable or contradicts itself (EX_CONFIG)."""

    exit_code = 78


class UnreadableConfigError(ConfigError):
    """The configuration exists, but this user has no permission to read it."""


class BundleError(EdgeClassifierError):
    """A model bundle is missing, incomplete, tampered with or gives wrong results (EX_DATAERR)."""

    exit_code = 65


class WeightsError(EdgeClassifierError):
    """FP32 weights cannot be read or fetched, or do not fit the architecture (EX_DATAERR)."""

    exit_code = 65


class PhotoError(EdgeClassifierError):
    """A photo cannot be read, is too large or is not a photo (EX_NOINPUT)."""

    exit_code = 66


class PhotoTooLargeError(PhotoError):
    """A photo has more bytes or pixels, or takes more time or memory, than is allowed."""


class PhotoMemoryError(PhotoTooLargeError):
    """A photo takes more memory than is allowed or free."""


class CameraError(EdgeClassifierError):
    """A camera source cannot be opened or read (EX_UNAVAILABLE); the daemon retries, commands stop."""

    exit_code = 69


class BrokerError(EdgeClassifierError):
    """The MQTT broker cannot be reached or refuses us (EX_UNAVAILABLE); the daemon retries, commands stop."""

    exit_code = 69


class BusyError(EdgeClassifierError):
    """A photo cannot be decoded or classified now (EX_TEMPFAIL), because others wait or the daemon stops."""

    exit_code = 75


class RequestError(EdgeClassifierError):
    """A request over MQTT or the Unix socket cannot be done; the message is the answer."""


class StateError(EdgeClassifierError):
    """The state directory cannot be read or written (EX_CANTCREAT)."""

    exit_code = 73


class OutputError(EdgeClassifierError):
    """Standard output takes no more, such as on a full disk (EX_IOERR)."""

    exit_code = 74


class EventError(EdgeClassifierError):
    """A stored event is not one line of the JSON that this version writes (EX_DATAERR)."""

    exit_code = 65
