"""Tests that a broker outage of 30 s in the middle of a run loses no accepted event, also if the daemon is killed.

Every frame of a looping video becomes a numbered event, in the daemon with a model that needs no torch. The
subscriber's record is compared with the counters in the ids.
"""

import json
import threading
import time
from collections import defaultdict
from pathlib import Path

import pytest

from tests.broker import Brokers, Subscriber, eventually
from tests.conftest import Configure
from tests.daemon_process import Daemon, run_command, running

AWAY_S = 30.0
FPS = 10
KILL_COSTS_S = 3.0  # the promise
SLACK_S = 1.0  # tolerance for a busy machine to hand over the last frame

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def config(configure: Configure, photo_video: Path, light_bundle: Path) -> Configure:
    """A config with which the daemon makes a numbered event of every frame, `FPS` a second."""
    return lambda url: configure(
        camera_source=f"file:{photo_video}",
        camera_loop=True,
        camera_fps=FPS,
        decision_every_frame=True,
        mqtt_url=url,
        model_bundle=str(light_bundle),
    )


def counters(ids: list[str]) -> dict[str, list[int]]:
    """Run of the daemon → the counters of its events, in the given order."""
    runs: dict[str, list[int]] = defaultdict(list)
    for identity in ids:
        run, _, counter = identity.rpartition("-")
        runs[run].append(int(counter))
    return runs


def made_by(daemon: Daemon) -> int:
    """The number of events that the daemon reports in its last line."""
    return int(daemon.log.rpartition("frames classified, ")[2].split()[0])


def wait_events(subscriber: Subscriber, count: int, suffix: str = "event") -> None:
    eventually(lambda: len(subscriber.on(suffix)) >= count, f"{count} messages on {suffix}", 90)


def wait_log_empty(subscriber: Subscriber) -> None:
    """Wait until the daemon reports an empty log."""
    wait_events(subscriber, 1, "replay")
    seen = len(subscriber.on("status"))
    eventually(
        lambda: any(m.json().get("log_depth") == 0 for m in subscriber.on("status")[seen:] if not m.retain),
        "the log is empty again",
        60,
    )


def account(subscriber: Subscriber) -> dict[str, list[int]]:
    """Check each run: replayed events are in order and marked as such, and each event matches its id."""
    replayed = subscriber.ids("replay")
    assert replayed, "the outage left nothing to replay: it did not test anything"
    for numbers in counters(list(dict.fromkeys(replayed))).values():
        assert numbers == sorted(numbers)
    assert all(message.json()["replayed"] is True for message in subscriber.on("replay"))
    arrived: dict[str, dict[str, object]] = {}
    for message in subscriber.on("event") + subscriber.on("replay"):
        event = {key: value for key, value in message.json().items() if key != "replayed"}
        assert arrived.setdefault(event["id"], event) == event, "one id, two events"
    return {run: sorted(numbers) for run, numbers in counters(list(arrived)).items()}


def whole_account(subscriber: Subscriber, file: Path) -> dict[str, list[int]]:
    """The account with what the stop left in the log, once the broker has delivered everything."""
    left = [json.loads(line)["id"] for line in run_command("fallback", "export", "--config", file).stdout.splitlines()]
    assert len(left) <= FPS, "only what was on its way at the stop may wait for the next start"
    idle = len(subscriber.received) - 1
    while idle != (idle := len(subscriber.received)):
        time.sleep(1.0)  # there is no event for "no more messages"
    runs = account(subscriber)
    for run, numbers in counters(left).items():
        runs[run] = sorted({*runs[run], *numbers})
    return runs


def test_30_s_without_a_broker_lose_no_event(config: Configure, brokers: Brokers) -> None:
    broker = brokers.start(persistent=True)
    subscriber = brokers.subscribe(broker)
    file = config(broker.url)
    with running(file, light=True) as daemon:
        wait_events(subscriber, 2 * FPS)
        broker.kill()
        threading.Event().wait(AWAY_S)  # the duration of the outage
        broker.start()
        subscriber.wait_subscribed()
        wait_events(subscriber, int((AWAY_S - KILL_COSTS_S) * FPS / 2), "replay")
        wait_log_empty(subscriber)
        daemon.stop()
        assert daemon.process.returncode == 0
        made = made_by(daemon)
    runs = whole_account(subscriber, file)
    assert list(runs.values()) == [list(range(made))], "each made event came, none was invented"


def test_a_kill_in_the_outage_costs_at_most_the_last_3_s(config: Configure, brokers: Brokers) -> None:
    broker = brokers.start(persistent=True)
    subscriber = brokers.subscribe(broker)
    file = config(broker.url)
    with running(file, light=True) as daemon:
        wait_events(subscriber, 2 * FPS)
        broker.kill()
        threading.Event().wait(AWAY_S / 2)
        daemon.process.kill()
        killed_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        daemon.process.wait()
    with running(file, light=True) as daemon:
        daemon.wait_ready()
        threading.Event().wait(AWAY_S / 2)
        broker.start()
        subscriber.wait_subscribed()
        wait_log_empty(subscriber)
        wait_events(subscriber, 3 * FPS)
        daemon.stop()
        made = made_by(daemon)
    runs = whole_account(subscriber, file)
    first, second = runs.values()
    assert second == list(range(made))
    assert first == list(range(len(first))), "a gap before the last three seconds"
    run = next(iter(runs))
    last = next(m.json() for m in subscriber.on("replay") if m.json()["id"] == f"{run}-{first[-1]:06d}")
    assert killed_at - last["uptime_s"] <= KILL_COSTS_S + SLACK_S
