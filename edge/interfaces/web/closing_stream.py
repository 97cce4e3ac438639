"""A streaming response that ends as soon as its client leaves, so that its place is free for another client."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class ClosingStream(StreamingResponse):
    """Sends what a generator yields, and closes the generator when it ends or the client leaves."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        # From 2.4 on Starlette relies on an error from `send`. uvicorn 0.32.0, Debian trixie's, announces 2.4 and
        # raises none: streams would go on without a client. Before 2.4 Starlette waits for the client's disconnect.
        asgi = {**scope["asgi"], "spec_version": "2.3"}
        try:
            await super().__call__({**scope, "asgi": asgi}, receive, send)
        finally:
            if isinstance(self.body_iterator, AsyncGenerator):  # otherwise the garbage collector would, later
                await self.body_iterator.aclose()
