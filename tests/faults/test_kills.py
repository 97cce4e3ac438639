"""Tests a hundred kills (-9) at random moments: no accepted event is lost, and none is invented."""

import random
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from edge.errors import StateError
from tests.broker import Brokers, Subscriber, eventually
from tests.delivery.room import Driver, depth, driver, stored_ids
from tests.faults.accounts import account_of_kills, received

FALLBACK_AFTER_S = 0.1


class Killer:
    """Starts delivery again and again and kills it, and keeps account of which events were safe by then.

    An event is safe if it was seen on the disk or at the subscriber before a kill. No time limit is used, because how
    long a commit takes depends on the test machine.
    """

    def __init__(self, subscriber: Subscriber, chance: random.Random) -> None:
        self._subscriber = subscriber
        self._chance = chance
        self.killed: list[Driver] = []
        self.safe: set[str] = set()

    def kill_at_random(self, url: str, directory: Path, rounds: range) -> None:
        """In the last round it is killed only after one of its own events is safe."""
        for number in rounds:
            options = {"per_s": 100, "fallback_after_s": FALLBACK_AFTER_S, "replay_per_s": 300}
            with driver(url, directory, run=number, **options) as box:
                box.wait_made(1)
                time.sleep(self._chance.uniform(0.0, 0.6))  # the random moment
                if number == rounds[-1]:
                    eventually(partial(self._has_safe, box), "one of its events is safe")
                self._look(box)
                box.kill()
            self.killed.append(box)

    def _has_safe(self, box: Driver) -> bool:
        self._look(box)
        return not self.safe.isdisjoint(box.made())

    def _look(self, box: Driver) -> None:
        with suppress(StateError):  # locked for too long, so nothing was seen
            self.safe |= set(stored_ids(box.log))
        self.safe |= received(self._subscriber)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(5))
def test_twenty_kills_during_an_outage_and_during_the_replay(brokers: Brokers, tmp_path: Path, seed: int) -> None:
    broker = brokers.prepare(persistent=True)
    broker.start()
    subscriber = Subscriber(broker, "edge/porch/+")
    try:
        killer = Killer(subscriber, random.Random(seed))
        for half in (0, 10):
            broker.stop()
            killer.kill_at_random(broker.url, tmp_path, range(half, half + 5))
            broker.start()
            killer.kill_at_random(broker.url, tmp_path, range(half + 5, half + 10))
        with driver(broker.url, tmp_path, run=20, per_s=20) as last:
            eventually(lambda: last.log.exists() and depth(last.log) == 0, "the log is empty", 60)
            last.terminate()
        processes = [*killer.killed, last]
        missing = account_of_kills(processes, subscriber, killer.safe)
        made = sum(len(process.made()) for process in processes)
        held = f"{len(killer.safe)} of them safe before a kill"
        print(f"\nseed {seed}: 20 kills, {made} events made, {held}, all those arrived; {missing} lost just before one")
    finally:
        subscriber.close()
