"""The delivery stage: every event reaches the broker, or the fallback log on disk until the broker takes it.

Its thread owns the outbox (events in memory), the spool (events on disk) and the publisher (the broker). Look here for
the order in which the thread serves them, and for what happens when the daemon stops.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from functools import partial

from edge.delivery.fallback import FallbackLog
from edge.delivery.link import Call
from edge.delivery.outbox import Outbox
from edge.delivery.publisher import Publisher
from edge.delivery.spool import Spool
from edge.events import Event
from edge.settings.schema import FallbackSettings, MqttSettings
from edge.status.snapshot import Status

logger = logging.getLogger("edge.delivery")

STAGE = "delivery"
BEAT_LIMIT_S = 30.0  # one fsync may take an SD card seconds
LAST_PUBACKS_S = 1.0  # the wait for the PUBACKs of the last events at a stop, and again for that of `offline`
CALLS_AT_ONCE = 200  # before what is due is looked at


class Delivery:
    """Takes events from any thread; each is acknowledged by the broker or stored on disk within 3 s.

    Methods put a call into the inbox of the delivery thread, which makes the calls one after the other.
    """

    def __init__(self, mqtt: MqttSettings, fallback: FallbackSettings, device: str, boot: str, status: Status) -> None:
        self._fallback_after_s = fallback.fallback_after_s
        self._status = status
        self._inbox: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._outbox = Outbox()
        log = FallbackLog(fallback.path, fallback.max_bytes)
        self._spool = Spool(log, fallback.replay_per_s, boot, status, time.monotonic)
        self._publisher = Publisher(mqtt, device, self._outbox, self._spool, status, post=self._inbox.put)
        self._stop_by: float | None = None
        self._last_pubacks_until = 0.0
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
        self._inbox.put(partial(self._accept, event))

    def set_camera(self, online: bool) -> None:
        """Publish on `camera/availability` whether there are frames."""
        self._inbox.put(partial(self._publisher.set_camera, online))

    def clock_synchronised(self, offset_s: float) -> None:
        """Give the offset wall − uptime of this boot, by which the times of earlier events are corrected on replay."""
        self._inbox.put(partial(self._spool.clock_synchronised, offset_s))

    def flush(self, timeout_s: float) -> bool:
        """Store what is unacknowledged; returns False if that took too long or failed."""
        stored: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._inbox.put(lambda: stored.put(self._spool.commit(self._outbox, urgent=True)))
        try:
            return stored.get(timeout=timeout_s)
        except queue.Empty:
            return False

    def stop(self, timeout_s: float) -> None:
        """Wait briefly for the last PUBACKs, store the rest, publish `offline` and end the thread."""
        self._inbox.put(partial(self._begin_stop, time.monotonic() + timeout_s))
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            logger.error("The delivery thread did not end within %g s; its disk or its broker hangs.", timeout_s)
        self._status.unwatch(STAGE)

    # --- the thread ---

    def _run(self) -> None:
        self._spool.open()
        while self._stop_by is None or not self._may_end():
            self._status.beat(STAGE)
            self._make_calls(self._wait_s())
            self._store_if_due()
            self._status.gauge(outbox_events=len(self._outbox))
            if self._stop_by is None:
                self._publisher.tick()
            self._publisher.send()
        self._end(self._stop_by)

    def _make_calls(self, timeout_s: float) -> None:
        try:
            self._inbox.get(timeout=timeout_s)()
            for _ in range(CALLS_AT_ONCE):
                self._inbox.get_nowait()()
        except queue.Empty:
            pass

    def _begin_stop(self, by: float) -> None:
        now = time.monotonic()
        self._stop_by, self._last_pubacks_until = by, now + min(LAST_PUBACKS_S, (by - now) / 4)

    def _accept(self, event: Event) -> None:
        payload = event.to_json().encode()
        if dropped := self._outbox.add(payload, time.monotonic()):
            self._spool.dropped(dropped)
        if event.reason in ("change", "heartbeat"):
            self._publisher.set_retained("prediction", payload)

    def _wait_s(self) -> float:
        """Seconds until something is due even if no call comes."""
        now = time.monotonic()
        due = [now + 1.0, self._publisher.due, self._store_at(), self._spool.write_at]
        if (replay_wait_s := self._publisher.replay_wait_s()) is not None:
            due.append(now + replay_wait_s)
        if self._stop_by is not None:
            due.append(self._last_pubacks_until)
        return max(0.0, min(at for at in due if at is not None) - now)

    def _store_at(self) -> float | None:
        """When what is in memory only has to be stored, in monotonic seconds; None: there is nothing."""
        oldest = self._outbox.oldest()
        if oldest is None:
            return None
        # Wait the full time even while the broker is away, so that one commit takes all events made meanwhile.
        return max(oldest + self._fallback_after_s, self._spool.retry_at)

    def _store_if_due(self) -> None:
        now = time.monotonic()
        store_at, write_at = self._store_at(), self._spool.write_at
        if store_at is not None and now >= store_at:
            self._spool.commit(self._outbox)
        elif write_at is not None and now >= write_at:
            self._spool.write_rest()

    def _may_end(self) -> bool:
        return not self._publisher.link.online or not len(self._outbox) or time.monotonic() >= self._last_pubacks_until

    def _end(self, by: float) -> None:
        """Store first: the next start sends what the broker does not get now."""
        stored = self._spool.commit(self._outbox, urgent=True)
        self._publisher.set_retained("availability", b"offline")
        until = min(time.monotonic() + LAST_PUBACKS_S, by - 0.5)
        self._publisher.send()
        while not self._publisher.idle and time.monotonic() < until:
            self._make_calls(max(0.0, until - time.monotonic()))
            self._publisher.send()
        self._publisher.link.close(max(0.1, min(1.0, by - time.monotonic() - 0.3)))
        self._spool.commit(self._outbox, urgent=True)
        if not stored and len(self._outbox):
            logger.error("%d events are lost: neither the broker nor the disk took them.", len(self._outbox))
        self._spool.close()
