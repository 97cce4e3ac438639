"""A connection to the page: closed if its request does not arrive in time, or to make room for a newer one.

Strangers can do this without a token: hold connections without sending anything, send half a request, or send a token
that is wrong. Of all connections that wait for their client, the one that has waited longest makes room.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge.interfaces.web.listener import OpenConnections

# Of the connections that may be open, kept free for new ones.
SPARE = 32
# From the connection, or the answer before, to the end of the headers.
HEADERS_WITHIN_S = 10.0
# From then on to the end of the body. `/predict` answers a slower body itself, after 20 s.
BODY_WITHIN_S = 25.0
# An answer that the client has not taken yet has to become so much shorter in this time: 1 kB/s.
TAKEN_WITHIN_S = 20.0
TAKEN_BYTES = 20_000
# Of a body: it may come in so many chunks, and one more for each SMALL_CHUNK bytes. h11 takes 4 µs for a chunk, so that
# 168 connections that send chunks of one byte would keep the event loop from every other one for half a minute.
MAX_CHUNKS = 1000
SMALL_CHUNK = 100
# Key of a request's `state`: it is answered late on purpose, so its connection may be closed for another.
MAKES_ROOM = "edge_makes_room"


def protocol_of(connections: OpenConnections) -> type[H11Protocol]:
    """The protocol for uvicorn, whose connections are those of `connections`."""
    return type("Connection", (BoundedConnection,), {"open": connections})


class BoundedParser(h11.Connection):
    """h11's parser, which refuses a body in many small chunks too."""

    _chunks = 0
    _body_bytes = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next part of a request.

        Raises:
            h11.RemoteProtocolError: it is not HTTP, or in too many chunks.
        """
        try:
            event = super().next_event()
        except ValueError as error:  # h11 0.14, Debian trixie's: a Content-Length of thousands of digits
            raise h11.RemoteProtocolError("a header is not valid") from error
        if isinstance(event, h11.Request):
            self._chunks = self._body_bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += 1
            self._body_bytes += len(event.data)
            if self._chunks > MAX_CHUNKS + self._body_bytes // SMALL_CHUNK:
                raise h11.RemoteProtocolError("the body has too many small chunks")
        return event


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP protocol with these limits; `protocol_of` makes the class that is used."""

    open: OpenConnections
    _waits_since = 0.0
    _given_up = False
    _deadline: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None
    _untaken = 0  # bytes of a complete answer at the last look

    def connection_made(self, transport: Any) -> None:
        """Start the time for the first request, and make room if there are too many connections."""
        self.conn = BoundedParser(h11.SERVER)
        super().connection_made(transport)
        self._await_headers()
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the times."""
        for timer in (self._deadline, self._taking):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the time in which the client has to take a part of what waits for it."""
        super().pause_writing()
        self._waits_since = self.loop.time()
        self._await_taking()

    def resume_writing(self) -> None:
        """Stop that time."""
        super().resume_writing()
        if self._taking is not None:
            self._taking.cancel()

    def on_response_complete(self) -> None:
        """Start the time for the next request."""
        self._await_headers()  # first: uvicorn goes on with a request that came meanwhile
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, or close the connection if its request has an answer already."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # the application must not answer too
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self._give_up()

    def _should_upgrade(self) -> bool:
        return False  # uvicorn would log how to install WebSockets, which no route uses

    @property
    def waits(self) -> bool:
        """Whether the client has not sent a whole request yet, takes no answer, or is kept waiting on purpose."""
        if self.flow.write_paused or self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            return True
        return bool(self.scope["state"].get(MAKES_ROOM))

    def _await_headers(self) -> None:
        self._waits_since = self.loop.time()
        self._untaken = 0
        self._close_unless_in(HEADERS_WITHIN_S)

    def _close_unless_in(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self._check, self.cycle)

    def _await_taking(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        self._taking = self.loop.call_later(TAKEN_WITHIN_S, self._check_taken, waiting)

    def _check_taken(self, before: int) -> None:
        if before - self.transport.get_write_buffer_size() >= TAKEN_BYTES:
            self._await_taking()
        else:
            self.open.refusals.slow += 1
            self._give_up()

    def _check(self, last: object) -> None:
        if self.cycle is None or self.cycle.response_complete:
            left = self.transport.get_write_buffer_size()
            if left and (not self._untaken or left < self._untaken):  # the client still takes the answer
                self._untaken = left
                self._close_unless_in(HEADERS_WITHIN_S)
                return
            # Browsers keep connections for later: one that has carried a request counts as idle, not as slow.
            self.open.refusals.slow += self.cycle is None
            self._give_up()
        elif self.cycle.more_body:
            if self.cycle is last:
                self.open.refusals.slow += 1
                self._give_up()
            else:
                self._close_unless_in(BODY_WITHIN_S)

    def _give_up(self) -> None:
        self._given_up = True  # asyncio closes it, and uvicorn forgets it, a moment later
        self.transport.abort()

    def _make_room(self) -> None:
        most = self.open.most
        kept = most - min(SPARE, most // 4)
        if len(self.connections) <= kept:
            return
        others = [one for one in self.connections if isinstance(one, BoundedConnection) and not one._given_up]
        waiting = [one for one in others if one.waits and one is not self]
        if len(others) > kept and waiting:
            min(waiting, key=lambda one: one._waits_since)._give_up()
            self.open.crowded("those that have waited longest for their client are closed")
