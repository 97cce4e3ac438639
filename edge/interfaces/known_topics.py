"""Remembers the retained topics of the box, so that those of a former name are removed from the broker."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

logger = logging.getLogger("edge.interfaces.known_topics")

_TOPICS = TypeAdapter(list[Annotated[str, Field(pattern=r"^[^+#\x00]+$")]])  # without wildcards


class KnownTopics:
    """Used by one thread.

    Args:
        file: holds the topics under which the box was announced last.
        topics: the present ones.
    """

    def __init__(self, file: Path, topics: Sequence[str]) -> None:
        self._file, self._topics = file, [*topics]

    def former(self) -> list[str]:
        """The topics of a former name, on which the broker may still keep messages."""
        return [topic for topic in self._known() if topic not in self._topics]

    def remember(self) -> None:
        """The box is announced, and the broker keeps nothing on the former topics any more."""
        if self._known() == self._topics:
            return
        if self.former():
            logger.info("Removed what the broker kept under this box's former name.")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps(self._topics), encoding="utf-8")
        except OSError as error:
            sentence = "%s cannot be written (%s); a renamed box would leave its old topics behind."
            logger.warning(sentence, self._file, error)

    def _known(self) -> list[str]:
        """The topics in the file; [] if they are not known."""
        try:
            return _TOPICS.validate_json(self._file.read_bytes())
        except (OSError, ValueError):
            return []
