"""Delays the answer to every wrong token, sent in the form, in a header or as a cookie, and logs them as one fault."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import Receive, Scope

from edge.interfaces.web.connection import MAKES_ROOM
from edge.interfaces.web.refusals import Refusals
from edge.printable import shortened

DELAY_S = 1.0
# Wrong tokens of all clients together are answered at this pace, so that many connections guess no faster than a few.
PACE_S = 0.25
MAX_DELAY_S = 20.0  # so that a mistyped token is answered at all while others guess
MAX_ADDRESS = 45  # characters; the longest IPv6 address


class WrongTokens:
    """Runs in the event loop.

    Args:
        refusals: logs the wrong tokens.
    """

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._answered_at = 0.0  # the newest that waits, in the loop's time

    async def delay(self, scope: Scope, receive: Receive) -> None:
        """Log a wrong token, and wait until it may be answered or its client has left."""
        # Behind a proxy on this machine it is the content of X-Forwarded-For, in which a stranger can write anything.
        client = shortened(scope["client"][0], MAX_ADDRESS) if scope.get("client") else "A client"
        self._refusals.wrong_token.happened(
            f"{client} sends a wrong token to the page, or the cookie of a login with an older one."
        )
        scope["state"][MAKES_ROOM] = True
        now = asyncio.get_running_loop().time()
        self._answered_at = min(max(now + DELAY_S, self._answered_at + PACE_S), now + MAX_DELAY_S)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_disconnected(receive), self._answered_at - now)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
