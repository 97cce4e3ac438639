"""Counters that continue across restarts, such as how often the camera was opened again, in one small JSON file.

The counts of events are stored with the events, in the fallback log.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pydantic import ConfigDict, NonNegativeInt, TypeAdapter, ValidationError

logger = logging.getLogger("edge.status.counters")

# A missing camera may be reopened every ten seconds for days; writing each time would wear the SD card.
SAVE_EVERY_S = 600.0
MAX_FILE_BYTES = 64 * 1024
_TOTALS = TypeAdapter(dict[str, NonNegativeInt], config=ConfigDict(strict=True))


class PersistentCounters:
    """Totals of some of a run's counters: what the file held at the start, plus this run's.

    If the file is missing, damaged or not writable, only the history is lost; the daemon logs it once and goes on.

    Args:
        path: the file, in the state directory.
        names: the counters to keep.
        clock: monotonic seconds.
    """

    def __init__(self, path: Path, names: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._names = tuple(names)
        self._clock = clock
        self._failing = False
        self._before = self._read()
        self._run = dict.fromkeys(self._names, 0)
        self._saved = self.totals
        self._saved_at = float("-inf")

    @property
    def totals(self) -> dict[str, int]:
        """Each counter since the device was installed."""
        return {name: self._before.get(name, 0) + self._run[name] for name in self._names}

    def follow(self, counters: Mapping[str, int]) -> None:
        """Take over this run's counters; saved at most every `SAVE_EVERY_S`, if they have changed."""
        self._run = {name: counters.get(name, 0) for name in self._names}
        if self._clock() - self._saved_at >= SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Write the file now, if a total has changed."""
        totals = self.totals
        if totals == self._saved:
            return
        self._saved_at = self._clock()  # also after a failure, which is retried no more often
        try:
            self._write(json.dumps(totals))
        except OSError as error:
            if not self._failing:
                logger.warning("%s cannot be written (%s); its counts end with this run.", self._path, error.strerror)
            self._failing = True
            return
        self._saved = totals
        if self._failing:
            logger.warning("%s is written again.", self._path)
        self._failing = False

    def _write(self, text: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_name(self._path.name + ".new")
        # A power cut leaves either the old file or the new one, each complete.
        with new.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _read(self) -> dict[str, int]:
        try:
            with self._path.open("rb") as file:
                return _TOTALS.validate_json(file.read(MAX_FILE_BYTES))
        except FileNotFoundError:
            return {}
        except OSError as error:
            logger.warning("%s cannot be read (%s); its counters begin at 0.", self._path, error.strerror)
        except ValidationError:
            logger.warning("%s is damaged; it is set aside and its counters begin at 0.", self._path)
            with contextlib.suppress(OSError):
                self._path.replace(self._path.with_name(self._path.name + ".damaged"))
        return {}
