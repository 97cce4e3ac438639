"""Tests that delivery survives a failing network under an open connection, with a real link in a network namespace."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import Brokers, eventually
from tests.delivery.room import CHECKOUT, stored_ids
from tests.faults.accounts import account

HERE, THERE = "10.213.77.1", "10.213.77.2"
KEEP_ALIVE_S = 5


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace whose only way out is the link `edge-there`; our end is `edge-here`."""
    name = f"edge-{os.getpid()}"
    try:
        ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a network namespace needs root and its capabilities: {error}")
    try:
        ip("link", "add", "edge-here", "type", "veth", "peer", "name", "edge-there", "netns", name)
        ip("addr", "add", f"{HERE}/30", "dev", "edge-here")
        ip("link", "set", "edge-here", "up")
        ip("-n", name, "link", "set", "lo", "up")  # paho wakes its network thread through a loopback connection
        ip("-n", name, "addr", "add", f"{THERE}/30", "dev", "edge-there")
        ip("-n", name, "link", "set", "edge-there", "up")
        yield name
    finally:
        ip("netns", "delete", name)
        subprocess.run(["ip", "link", "delete", "edge-here"], check=False, capture_output=True)


def test_a_link_that_is_down_for_longer_than_the_keep_alive(brokers: Brokers, namespace: str, tmp_path: Path) -> None:
    broker = brokers.start("listener 18830 " + HERE)
    subscriber = brokers.subscribe(broker, "edge/porch/+")
    made, log = tmp_path / "made", tmp_path / "fallback.db"
    command = ["ip", "netns", "exec", namespace, sys.executable, str(CHECKOUT / "tests/delivery/driver.py")]
    arguments = [f"--url=mqtt://{HERE}:18830", f"--state={tmp_path}", f"--made={made}", "--per-s=20"]
    box = subprocess.Popen(
        [*command, *arguments, f"--keepalive-s={KEEP_ALIVE_S}"],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: len(subscriber.ids("event")) > 20, "live events")
        ip("-n", namespace, "link", "set", "edge-there", "down")
        time.sleep(2 * KEEP_ALIVE_S)  # the duration of the fault
        assert stored_ids(log), "events wait on the disk"
        before = len(subscriber.ids("event"))
        ip("-n", namespace, "link", "set", "edge-there", "up")
        up = time.monotonic()
        eventually(lambda: len(subscriber.ids("event")) > before, "live events again")
        print(f"\nlive again {time.monotonic() - up:.1f} s after the link (promise: 5 s)")
        eventually(lambda: not stored_ids(log), "the log is empty")
        box.terminate()
        assert box.wait(20) == 0
    finally:
        box.kill()
        box.wait(10)
    ids = [line.split()[1] for line in made.read_text().splitlines()]
    account(ids, subscriber, log)
    assert json.loads(made.with_suffix(".status").read_text())["events_dropped"] == 0
    assert subscriber.ids("replay") == sorted(subscriber.ids("replay"))
