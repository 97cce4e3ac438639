"""Tests that `forget` removes all of a box's retained messages from the broker."""

import argparse
import subprocess

import pytest

from edge.commands import forget
from edge.errors import BrokerError
from edge.settings.schema import DeviceSettings, MqttSettings, Settings
from tests.broker import Brokers, Mosquitto, eventually, free_port

RETAINED = ("availability", "camera/availability", "prediction", "status")
ANNOUNCED = "homeassistant/device/edge-classifier-{}/config"


def settings(url: str) -> Settings:
    return Settings(device=DeviceSettings(name="porch"), mqtt=MqttSettings(url=url))


def retain(broker: Mosquitto, topic: str) -> None:
    publish = ["mosquitto_pub", "-p", str(broker.port), "-q", "1", "-r", "-t", topic, "-m", "something"]
    subprocess.run(publish, check=True)


@pytest.mark.parametrize("given", [None, "attic"])
def test_everything_of_the_named_box_is_cleared_and_nothing_of_another(brokers: Brokers, given: str | None) -> None:
    broker = brokers.start()
    for topic in RETAINED:
        retain(broker, f"edge/{given or 'porch'}/{topic}")
    retain(broker, ANNOUNCED.format(given or "porch"))
    retain(broker, "edge/garage/prediction")
    assert forget.run(argparse.Namespace(device=given), settings(broker.url)) == 0
    late = brokers.subscribe(broker, "#")
    eventually(lambda: late.received, "the other box's message")
    assert [message.topic for message in late.received] == ["edge/garage/prediction"]


def test_a_broker_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1"):
        forget.run(argparse.Namespace(device=None), settings(f"mqtt://127.0.0.1:{free_port()}"))
