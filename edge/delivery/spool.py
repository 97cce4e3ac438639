"""The events on disk, as the delivery thread uses them: when they are stored, replayed and deleted."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from edge.backoff import Backoff
from edge.delivery.fallback import COMMIT_BYTES, Changes, FallbackLog
from edge.delivery.log_file import Row
from edge.delivery.outbox import Outbox, Pending
from edge.errors import EventError, StateError
from edge.events import Event
from edge.repeating_fault import RepeatingFault
from edge.status.snapshot import Status

logger = logging.getLogger("edge.delivery")

RETRY_S = 3.0  # between two attempts on a disk that takes nothing
WRITE_AFTER_S = 3.0  # deletions may wait: a kill before them means a second delivery, never a loss
WRITE_AT_ONCE = 500  # deletions, so that live events do not wait long for the disk
READ_AT_ONCE = 250
SALVAGE_RETRY_S = 0.5  # where there is no room for the next one
SALVAGE_EVERY_S = 0.05  # between two steps, in which live events have the thread
RETRY_REFUSED_S, RETRY_REFUSED_CAP_S = 10.0, 600.0  # refused events, where the topic itself is not held
SAME_OFFSET_S = 0.5  # smaller changes, from NTP's adjustments, are not written


class Spool:
    """Owns the fallback log; used by the delivery thread only.

    Args:
        replay_per_s: events replayed each second; 0: as fast as the broker acknowledges.
        boot: this boot's id, under which its clock offset is stored.
        clock: monotonic seconds.
    """

    def __init__(
        self, log: FallbackLog, replay_per_s: float, boot: str, status: Status, clock: Callable[[], float]
    ) -> None:
        self._log = log
        self._per_s = replay_per_s
        self._boot = boot
        self._status = status
        self._clock = clock
        self._fault = RepeatingFault(logger, clock=clock)
        #: Before this time a commit does not try.
        self.retry_at = 0.0
        self._offset_s: float | None = None  # of this boot
        self._delivered: dict[int, None] = {}  # acknowledged, to be deleted; a dict for its order
        self._refusals: dict[int, str] = {}
        self._write_at: float | None = None
        self._salvage_at = 0.0
        self._dropped = 0  # lost before they reached the log, not yet remembered there
        self._reported_dropped = 0
        self._after = 0  # the last event that was read
        self._retry_refused = Backoff(RETRY_REFUSED_S, RETRY_REFUSED_CAP_S, jitter=0.0)
        self._retry_refused_at = 0.0
        self._refused_at = float("-inf")
        self._takes = False  # whether the broker has accepted an event since it refused one
        self.rewind()

    # --- storing ---

    def open(self) -> None:
        """Open the log, so that a fault shows at the start."""
        self._try(self._log.open)

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def clock_synchronised(self, offset_s: float) -> None:
        """Set wall − uptime of this boot; may be called again and again."""
        self._offset_s = offset_s
        stored = self._log.account.offsets.get(self._boot)
        if self._log.account.waiting and (stored is None or abs(stored - offset_s) > SAME_OFFSET_S):
            self._write_soon()

    def dropped(self, events: int) -> None:
        """Count events that were lost before they could be stored."""
        self._dropped += events
        self._report()

    def broker_takes(self) -> None:
        """The broker has accepted an event, stored or not."""
        self._takes = True

    def delivered(self, seq: int) -> None:
        """The broker has acknowledged a stored event; it is deleted with the next commit."""
        self._takes = True
        self._delivered[seq] = None
        if len(self._delivered) >= WRITE_AT_ONCE:
            self._write_at = self._clock()
        self._write_soon()

    def refused(self, seq: int, reason: str, *, for_now: bool = False) -> None:
        """The broker has refused a stored event; it stays, with the reason.

        Args:
            for_now: for a reason such as a full queue.
        """
        self._refusals[seq] = reason
        if for_now and not self._takes:
            # As long as the broker takes nothing, the event is not to blame, and is tried again soon.
            self._retry_refused.reset()
            self._retry_refused_at = min(self._retry_refused_at, self._clock() + RETRY_REFUSED_S)
        self._takes = False
        self._refused_at = self._clock()
        self._in_flight.discard(seq)
        self._write_soon()

    def again(self, seq: int) -> None:
        """The broker does not take a stored event for now: it is to be replayed again, before later ones."""
        self._in_flight.discard(seq)
        self._buffer.clear()
        self._after = min(self._after, seq - 1)
        self._exhausted = False

    @property
    def write_at(self) -> float | None:
        """When `write_rest` is next due; None if nothing is scheduled."""
        if self._fault.active:
            return self.retry_at
        if self._log.salvaging:
            return min(self._salvage_at, self._write_at or self._salvage_at)
        return self._write_at

    def commit(self, outbox: Outbox, *, urgent: bool = False) -> bool:
        """Bring everything to the disk that is in memory only.

        Args:
            urgent: try even if the disk refused a moment ago.

        Returns:
            False: the disk does not take it now; it stays in memory, and `retry_at` is when to try again.
        """
        if self._clock() < self.retry_at and not urgent:
            return False
        part = outbox.oldest_part(COMMIT_BYTES)
        if not part and self._write_at is None and not self._dropped:
            return True  # nothing to store: spare the SD card a write
        while self._try(self._store, part):
            for event in part:
                outbox.settle(event)
            if not (part := outbox.oldest_part(COMMIT_BYTES)):
                return True
        return False

    def write_rest(self) -> None:
        """Write all but events, which need not touch the disk on their way to a healthy broker.

        After a fault of the disk this also tries to open the log again.
        """
        now = self._clock()
        if self._write_at is not None and now >= self._write_at:
            self._try(self._store, [])
        elif not self._log.salvaging:
            self._try(self._log.open)
        elif now >= self._salvage_at:
            self._try(self._continue_salvage)

    def _continue_salvage(self) -> None:
        if self._delivered:
            self._store([])  # the salvage may be waiting for the room that this frees
        came_further = self._log.salvage()
        self._salvage_at = self._clock() + (SALVAGE_EVERY_S if came_further else SALVAGE_RETRY_S)
        if came_further:
            # What was saved is older than what was read already.
            self._buffer.clear()
            self._after = 0
            self._exhausted = False

    def _store(self, part: list[Pending]) -> None:
        changes = Changes(
            add=[(event.payload, event.refused) for event in part],
            delete=list(self._delivered),
            refused=self._refusals,
            dropped=self._dropped,
            boot=self._boot,
            offset_s=self._offset_s,
        )
        for event, seq in zip(part, self._log.commit(changes), strict=True):
            event.seq = seq
            if event.awaited:
                self._in_flight.add(seq)
        self._in_flight.difference_update(self._delivered)
        self._delivered.clear()
        self._refusals.clear()
        self._dropped = 0
        self._write_at = None
        self._exhausted = False
        self._status.count("events_spooled", len(part))

    def _write_soon(self) -> None:
        if self._write_at is None:
            self._write_at = self._clock() + WRITE_AFTER_S

    # --- replaying ---

    def rewind(self) -> None:
        """A connection begins: nothing is in flight, and what was refused may be tried again, after the rest."""
        now = self._next_at = self._clock()
        # A broker that ended the last connection at a refused event would end this one too, and each one after it.
        if now - self._refused_at >= RETRY_REFUSED_S:
            self._retry_refused.reset()
            self._retry_refused_at = now if self._log.account.waiting else now + self._retry_refused.next_s()
        self._rewind(set(self._delivered), with_refused=False)

    def _rewind(self, in_flight: set[int], *, with_refused: bool) -> None:
        self._in_flight = in_flight
        self._buffer: deque[Row] = deque()
        self._after = 0
        self._exhausted = False
        self._retry_refused_up_to = self._log.account.next_seq - 1 if with_refused else 0
        if with_refused:
            self._retry_refused_at = self._clock() + self._retry_refused.next_s()

    def wait_s(self) -> float | None:
        """Seconds until the rate limit lets the next event go; None: there is nothing to replay."""
        now = self._clock()
        if self._exhausted and self._log.account.waiting and now >= self._retry_refused_at:
            self._rewind(self._in_flight, with_refused=True)
        if not self._buffer and (self._exhausted or not self._log.account.waiting or now < self.retry_at):
            return None
        return max(0.0, self._next_at - now)

    def next(self) -> tuple[int, bytes] | None:
        """The oldest event that is not on its way yet: its seq and its JSON for the `replay` topic."""
        while True:
            if not self._buffer and not self._fill():
                return None
            row = self._buffer.popleft()
            self._after = row.seq
            refused = row.refused or row.seq in self._refusals
            if row.seq in self._in_flight or (refused and row.seq > self._retry_refused_up_to):
                continue
            self._in_flight.add(row.seq)
            if self._per_s:
                # After a late start it goes faster, by at most a tenth of a second's worth of events.
                self._next_at = max(self._next_at, self._clock() - 0.1) + 1 / self._per_s
            return row.seq, self._as_replayed(row.payload)

    def _fill(self) -> bool:
        found: list[Row] = []
        if not self._try(lambda: found.extend(self._log.read(self._after, READ_AT_ONCE))):
            return False
        self._buffer.extend(found)
        self._exhausted = not found
        return bool(found)

    def _as_replayed(self, payload: bytes) -> bytes:
        if b'"time_synced":true' in payload:
            # Nothing to correct, and a backlog has thousands: add the field without reading the rest.
            return payload[:-1] + b',"replayed":true}'
        try:
            event = Event.from_json(payload)
        except EventError:
            return payload  # another version wrote it; it is delivered as it is
        offset_s = self._offset_s if event.boot == self._boot else None
        return event.replayed_json(self._log.account.offsets.get(event.boot) if offset_s is None else offset_s).encode()

    # --- both ---

    def _try(self, work: Callable[..., object], *arguments: object) -> bool:
        """Whether the log could be used; a fault of the disk is one line and is tried again later."""
        try:
            work(*arguments)
        except StateError as error:
            self.retry_at = self._clock() + RETRY_S
            self._fault.happened(f"{error} Until then events wait in memory.")
            self._status.gauge(log_error=str(error))
            return False
        if self._fault.active:
            self._fault.over("The fallback log can be used again.")
        self._status.gauge(log_error="")
        self._report()
        return True

    def _report(self) -> None:
        """Depth and drops, those of earlier runs included."""
        account, used_percent = self._log.account, round(100 * self._log.used, 1)
        self._status.gauge(log_depth=account.waiting, log_bytes=account.bytes, log_used_percent=used_percent)
        dropped = self._log.account.dropped + self._dropped
        self._status.count("events_dropped", dropped - self._reported_dropped)
        self._reported_dropped = dropped
