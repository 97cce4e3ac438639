"""What a link to the broker calls: the publisher of the events, or the requests."""

from __future__ import annotations

from typing import Protocol


class Owner(Protocol):
    """What the link calls in its owner's thread."""

    def connected(self) -> None:
        """A connection begins; the broker may be another one, so retained topics have to be sent again."""

    def works(self) -> None:
        """The broker acknowledges messages, and no other client seems to use our id."""

    def ended(self, sentence: str, *, denied: bool) -> None:
        """A connection ended; `denied`: the broker refuses this link, and the other link of the box may work."""

    def learned(self, sentence: str) -> None:
        """The broker restricts what the box does; "": it does not any more."""
