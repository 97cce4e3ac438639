"""Everything that the web server may use of the daemon; `daemon/service.py` makes one `DaemonAccess`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from edge.events import Classification, Event, Label
from edge.frames import Pixels
from edge.status.recent import Recent
from edge.status.snapshot import StatusSnapshot


@dataclass(frozen=True, slots=True)
class DaemonAccess:
    """Every field may be used from any thread."""

    status: Callable[[], StatusSnapshot]
    recent: Recent
    top: Callable[[], tuple[Label, ...]]  # the newest smoothed top-3
    decode: Callable[[bytes, str], Pixels]  # a photo and its name; raises PhotoError, BusyError
    classify: Callable[[Pixels], Future[Classification]]  # raises BusyError
    model: Callable[[], Mapping[str, Any]]  # the name, the manifest and the number of classes, as JSON types
    labels: Callable[[], tuple[str, Sequence[str]]]  # the name of the bundle in use, and its classes in their order
    # So many of the newest events of the fallback log, up to a time ("": of all), oldest first; raises StateError.
    logged: Callable[[int, str], list[Event]]
