"""Runs delivery alone, without torch, as a process that tests can kill.

It makes numbered events, writes the id of each to a file *after* handing it over, and on SIGTERM writes its last status
to a file and stops.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from edge.delivery.delivery import Delivery
from edge.delivery.log_file import LogFile
from edge.events import Event, Label, event_ids, isoformat_utc
from edge.settings.schema import FallbackSettings, MqttSettings
from edge.status.snapshot import Status

BOOT = "5f1c2e7a"
DEVICE = "porch"


def make_event(ids: Iterator[str], **fields: Any) -> Event:
    """An event as the decision makes it; `fields` replace some of its fields."""
    event = Event(
        id=next(ids),
        device=DEVICE,
        reason="frame",
        time=isoformat_utc(time.time()),
        time_synced=True,
        boot=BOOT,
        uptime_s=round(time.clock_gettime(time.CLOCK_BOOTTIME), 3),
        label="alp",
        top=(Label("alp", 92.3, 970), Label("ski", 4.1, 795), Label("valley", 1.1, 979)),
        model="resnet18-int8-3fa9c1",
        latency_ms={"capture": 3.1, "preprocess": 1.2, "inference": 41.8},
    )
    return dataclasses.replace(event, **fields)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--made", type=Path, required=True, help="one line an event: monotonic seconds and id")
    parser.add_argument("--per-s", type=float, default=20.0)
    parser.add_argument("--count", type=int, default=0, help="stop making events after so many; 0: never")
    parser.add_argument("--replay-per-s", type=float, default=0.0)
    parser.add_argument("--max-bytes", type=int, default=268_435_456)
    parser.add_argument("--keepalive-s", type=int, default=30)
    parser.add_argument("--fallback-after-s", type=float, default=2.0)
    options = parser.parse_args(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    started_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    ids = event_ids(DEVICE, BOOT, started_ms)
    status = Status()
    delivery = Delivery(
        MqttSettings(url=options.url, keepalive_s=options.keepalive_s),
        FallbackSettings(
            path=options.state / "fallback.db",
            replay_per_s=options.replay_per_s,
            max_bytes=options.max_bytes,
            fallback_after_s=options.fallback_after_s,
        ),
        DEVICE,
        BOOT,
        status,
    )
    delivery.start()
    made = os.open(options.made, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    next_at, number = time.monotonic(), 0
    while not stop.is_set():
        if not options.count or number < options.count:
            new = make_event(ids)
            at = time.monotonic()
            delivery.put(new)
            os.write(made, f"{at:.3f} {new.id}\n".encode())
            number += 1
            next_at += 1 / options.per_s if options.per_s else 0.0
        else:
            next_at = time.monotonic() + 0.1
        stop.wait(max(0.0, next_at - time.monotonic()))
    delivery.stop(4.5)
    options.made.with_suffix(".status").write_text(
        json.dumps({**status.snapshot().to_dict(), "cpu_s": time.process_time()})
    )
    return 0


def run(argv: list[str], errors: Path) -> None:
    """What the process that `room.Driver` starts executes; stderr goes to a file."""
    with errors.open("wb") as file:
        os.dup2(file.fileno(), 2)
    sys.exit(main(argv))


def open_log_together(path: Path, together: Barrier) -> None:
    """Open the log at the same moment as other processes."""
    together.wait()
    LogFile(path, 1 << 20).close()


if __name__ == "__main__":
    sys.exit(main())
