"""The delivery stage: every event reaches the broker, or the fallback log on disk until the broker takes it.

Its thread owns the outbox (events in memory), the spool (events on disk) and the publisher (the broker). Look here for
the order in which they are served, and for what happens when the daemon stops.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from edge.delivery.connection import Report
from edge.delivery.fallback import FallbackLog
from edge.delivery.outbox import Outbox
from edge.delivery.publisher import Publisher
from edge.delivery.spool import Spool
from edge.events import Event
from edge.settings.schema import FallbackSettings, MqttSettings
from edge.status.snapshot import Status

logger = logging.getLogger("edge.delivery")

STAGE = "delivery"
BEAT_LIMIT_S = 30.0  # an SD card may take seconds over one fsync
LAST_WORDS_S = 1.0  # the wait for the PUBACKs of the last events at a stop, and again for that of `offline`
TURNS = 200  # messages from the inbox before the timers are looked at


class _Made(NamedTuple):
    event: Event


class _Camera(NamedTuple):
    online: bool


class _Synchronised(NamedTuple):
    offset_s: float


class _Flush(NamedTuple):
    stored: queue.SimpleQueue[bool]


class _Stop(NamedTuple):
    by: float  # monotonic seconds


_Message = Report | _Made | _Camera | _Synchronised | _Flush | _Stop


class Delivery:
    """Takes events from any thread; each is acknowledged by the broker or stored on disk within 3 s.

    Methods put a message into the inbox of the delivery thread, which does the work.

    Args:
        status_payload: the JSON for the `status` topic; called in the delivery thread.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        mqtt: MqttSettings,
        fallback: FallbackSettings,
        device: str,
        boot: str,
        status: Status,
        *,
        status_payload: Callable[[], bytes],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fallback_after_s = fallback.fallback_after_s
        self._status = status
        self._clock = clock
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._outbox = Outbox()
        log = FallbackLog(fallback.path, fallback.max_bytes)
        self._spool = Spool(log, fallback.replay_per_s, boot, status, clock)
        self._publisher = Publisher(
            *(mqtt, device, self._outbox, self._spool, status),
            post=self._inbox.put,
            status_payload=status_payload,
            clock=clock,
        )
        self._stop_by: float | None = None
        self._last_words_until = 0.0
        self._thread = threading.Thread(target=self._run, name=STAGE, daemon=True)

    # --- any thread ---

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._status.gauge(broker="offline", broker_error="", outbox_events=0)
        self._status.watch(STAGE, BEAT_LIMIT_S)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Deliver an event; never blocks, and a fault of the broker or the disk raises nothing here."""
        self._status.count("events_made")
        self._inbox.put(_Made(event))

    def set_camera(self, online: bool) -> None:
        """Publish on `camera/availability` whether there are frames."""
        self._inbox.put(_Camera(online))

    def clock_synchronised(self, offset_s: float) -> None:
        """Give the offset wall − uptime of this boot, by which the times of earlier events are corrected on replay."""
        self._inbox.put(_Synchronised(offset_s))

    def flush(self, timeout_s: float) -> bool:
        """Store what is unacknowledged; returns False if that took too long or failed."""
        stored: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._inbox.put(_Flush(stored))
        try:
            return stored.get(timeout=timeout_s)
        except queue.Empty:
            return False

    def stop(self, timeout_s: float) -> None:
        """Wait briefly for the last PUBACKs, store the rest, publish `offline` and end the thread."""
        self._inbox.put(_Stop(self._clock() + timeout_s))
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            logger.error("The delivery thread did not end within %g s; its disk or its broker hangs.", timeout_s)
        self._status.unwatch(STAGE)

    # --- the thread ---

    def _run(self) -> None:
        self._spool.open()
        while self._stop_by is None or not self._may_end():
            self._status.beat(STAGE)
            self._take_messages(self._wait_s())
            self._store_if_due()
            self._status.gauge(outbox_events=len(self._outbox))
            if self._stop_by is None:
                self._publisher.tick()
            self._publisher.send()
        self._end(self._stop_by)

    def _take_messages(self, timeout_s: float) -> None:
        try:
            self._handle(self._inbox.get(timeout=timeout_s))
            for _ in range(TURNS):
                self._handle(self._inbox.get_nowait())
        except queue.Empty:
            pass

    def _handle(self, message: _Message) -> None:
        match message:
            case _Made(event):
                self._accept(event)
            case _Camera(online):
                self._publisher.set_retained("camera/availability", b"online" if online else b"offline")
                self._publisher.publish_status_now()
            case _Synchronised(offset_s):
                self._spool.clock_synchronised(offset_s)
            case _Flush(stored):
                stored.put(self._spool.commit(self._outbox, urgent=True))
            case _Stop(by):
                now = self._clock()
                self._stop_by = by
                self._last_words_until = now + min(LAST_WORDS_S, (by - now) / 4)
            case _:
                self._publisher.link.take(message)

    def _accept(self, event: Event) -> None:
        payload = event.to_json().encode()
        if dropped := self._outbox.add(payload, self._clock()):
            self._spool.dropped(dropped)
        if event.reason in ("change", "heartbeat"):
            self._publisher.set_retained("prediction", payload)

    def _wait_s(self) -> float:
        """Seconds until something is due even if no message comes."""
        now = self._clock()
        until = min(now + 1.0, self._publisher.due)
        for at in (self._store_at(), self._spool.write_at):
            until = until if at is None else min(until, at)
        if (replay_wait_s := self._publisher.replay_wait_s()) is not None:
            until = min(until, now + replay_wait_s)
        if self._stop_by is not None:
            until = min(until, self._last_words_until)
        return max(0.0, until - now)

    def _store_at(self) -> float | None:
        """When what is in memory only has to be stored, in monotonic seconds; None: there is nothing."""
        oldest = self._outbox.oldest()
        if oldest is None:
            return None
        # Wait the full time even while the broker is away, so that one commit takes all events made meanwhile.
        return max(oldest + self._fallback_after_s, self._spool.retry_at)

    def _store_if_due(self) -> None:
        now = self._clock()
        store_at, write_at = self._store_at(), self._spool.write_at
        if store_at is not None and now >= store_at:
            self._spool.commit(self._outbox)
        elif write_at is not None and now >= write_at:
            self._spool.write_rest()

    def _may_end(self) -> bool:
        return not self._publisher.link.online or not len(self._outbox) or self._clock() >= self._last_words_until

    def _end(self, by: float) -> None:
        """Store first: what the broker does not get now it gets after the next start."""
        stored = self._spool.commit(self._outbox, urgent=True)
        self._publisher.set_retained("availability", b"offline")
        until = min(self._clock() + LAST_WORDS_S, by - 0.5)
        self._publisher.send()
        while not self._publisher.idle and self._clock() < until:
            self._take_messages(max(0.0, until - self._clock()))
            self._publisher.send()
        self._publisher.link.disconnect()
        self._publisher.link.join(max(0.1, min(1.0, by - self._clock() - 0.3)))
        self._spool.commit(self._outbox, urgent=True)
        if not stored and len(self._outbox):
            logger.error("%d events are lost: neither the broker nor the disk took them.", len(self._outbox))
        self._spool.close()
