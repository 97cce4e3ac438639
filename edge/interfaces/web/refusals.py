"""What the web server refuses: each kind is one line of the log at its start, one a minute and one at its end."""

from __future__ import annotations

import logging

from edge.repeating_fault import RepeatingFault

logger = logging.getLogger("edge.interfaces.web")


class Refusals:
    """The kinds of refusals; for any thread."""

    def __init__(self) -> None:
        self.crowd = RepeatingFault(logger)  # more connections than there may be
        self.busy = RepeatingFault(logger)  # more requests at once than there may be
        self.wrong_token = RepeatingFault(logger)

    def settle(self) -> None:
        """Log the end of what has stopped; to be called every few seconds."""
        self.crowd.settle("The page has room for connections again")
        self.busy.settle("The page has room for requests again")
        self.wrong_token.settle("No wrong token was sent to the page for a minute")
