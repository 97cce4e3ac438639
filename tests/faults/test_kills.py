"""kill -9 at random moments, a hundred times: what was accepted is never lost, and nothing is invented."""

import random
import time
from pathlib import Path

import pytest

from tests.broker import Brokers, Subscriber, eventually
from tests.delivery.room import Driver, depth, driver
from tests.faults.accounts import account_of_kills, received

FALLBACK_AFTER_S = 0.1
# With fallback_after_s = 0.1 an event is safe after 0.1 s and its commit; the rest is for a busy test machine.
SAFE_AFTER_S = 1.0


def kill_at_random(url: str, directory: Path, rounds: range, chance: random.Random) -> list[Driver]:
    killed = []
    for number in rounds:
        options = {"per_s": 100, "fallback_after_s": FALLBACK_AFTER_S, "replay_per_s": 300}
        with driver(url, directory, run=number, **options) as box:
            box.wait_made(1)
            time.sleep(chance.uniform(0.0, 0.6))  # the random moment
            box.kill()
        killed.append(box)
    return killed


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(5))
def test_twenty_kills_during_an_outage_and_during_the_replay(brokers: Brokers, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    broker = brokers.prepare(persistent=True)
    broker.start()
    subscriber = Subscriber(broker, "edge/porch/+")
    try:
        processes = []
        for half in (0, 10):
            broker.stop()
            processes += kill_at_random(broker.url, tmp_path, range(half, half + 5), chance)
            broker.start()
            processes += kill_at_random(broker.url, tmp_path, range(half + 5, half + 10), chance)
        with driver(broker.url, tmp_path, run=20, per_s=20) as last:
            eventually(lambda: last.log.exists() and depth(last.log) == 0, "the log is empty", 60)
            last.terminate()
        missing = account_of_kills([*processes, last], subscriber, SAFE_AFTER_S)
        made = sum(len(process.made()) for process in processes)
        arrived = len(received(subscriber))
        print(f"\nseed {seed}: 20 kills, {made} events made, {arrived} arrived, {missing} lost just before a kill")
    finally:
        subscriber.close()
