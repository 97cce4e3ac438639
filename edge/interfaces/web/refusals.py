"""What the web server refuses: counted for the metrics, and most kinds are lines of the log.

A kind is one line at its start, one a minute and one at its end.
"""

from __future__ import annotations

import logging

from edge.repeating_fault import RepeatingFault

logger = logging.getLogger("edge.interfaces.web")


class _Refusal(RepeatingFault):
    """One kind, with how often it has happened since the start."""

    total = 0

    def happened(self, sentence: str, error: BaseException | None = None) -> None:
        self.total += 1  # in the event loop only
        super().happened(sentence, error)


class Refusals:
    """The kinds of refusals; they happen in the event loop, and any thread may read the counts."""

    def __init__(self) -> None:
        self.crowd = _Refusal(logger)  # more connections than there may be
        self.busy = _Refusal(logger)  # more requests at once than there may be
        self.wrong_token = _Refusal(logger)
        self.slow = 0  # connections whose request did not arrive in time
        self.too_many = 0  # requests that were answered with 429

    def counts(self) -> dict[str, int]:
        """How often each reason has occurred since the start."""
        return {
            "connections": self.crowd.total,
            "requests": self.busy.total,
            "slow": self.slow,
            "too_many": self.too_many,
            "wrong_token": self.wrong_token.total,
        }

    def settle(self) -> None:
        """Log the end of what has stopped; to be called every few seconds."""
        self.crowd.settle("The page has room for connections again")
        self.busy.settle("The page has room for requests again")
        self.wrong_token.settle("No wrong token was sent to the page for a minute")
