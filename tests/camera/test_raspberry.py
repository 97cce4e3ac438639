"""Tests the picamera2 source with a stand-in of its interface, because picamera2 comes only from apt.

The real one was run with libcamera's virtual camera (vimc).
"""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest

from edge.camera.geometry import FrameBuffers
from edge.camera.source import LostCameraError, Source, make_source
from edge.errors import CameraError
from edge.settings.schema import CameraSettings


class Request:
    def __init__(self, log: list[str]) -> None:
        self._log = log
        self.array = np.full((480, 640, 3), (200, 100, 50), np.uint8)  # its BGR888 is R, G, B in memory

    def release(self) -> None:
        self._log.append("release")


class MappedArray:
    def __init__(self, request: Request, stream: str, *, write: bool) -> None:
        assert (stream, write) == ("main", False)
        self.array = request.array

    def __enter__(self) -> MappedArray:
        return self

    def __exit__(self, *error: object) -> None:
        del self.array


class Picamera2:
    log: list[str]
    stalled = False
    system_devices: tuple[int, ...] = ()
    settles_for = "BGR888"

    def __init__(self, number: int) -> None:
        if number > 0:
            raise IndexError("list index out of range")
        self.camera_properties = {"SystemDevices": self.system_devices}

    def create_video_configuration(self, **configuration: Any) -> dict[str, Any]:
        assert configuration["main"]["format"] == "BGR888"
        assert all(length % 2 == 0 for length in configuration["main"]["size"])
        assert configuration["queue"] is False
        return configuration

    def configure(self, configuration: dict[str, Any]) -> None:
        self.log.append("configure")

    def camera_configuration(self) -> dict[str, Any]:
        return {"main": {"format": self.settles_for}}

    def start(self) -> None:
        self.log.append("start")

    def capture_request(self, *, wait: float) -> Request:
        if self.stalled:
            assert 0 < wait < 5, "its own time-out is shorter than that of a blocked call"
            raise TimeoutError
        return Request(self.log)

    def close(self) -> None:
        self.log.append("close")


@pytest.fixture
def picamera2(monkeypatch: pytest.MonkeyPatch) -> type[Picamera2]:
    class OfThisTest(Picamera2):
        log: list[str] = []  # noqa: RUF012 -- one a test

    module = types.ModuleType("picamera2")
    module.__dict__.update(Picamera2=OfThisTest, MappedArray=MappedArray)
    monkeypatch.setitem(sys.modules, "picamera2", module)
    return OfThisTest


def source_of(uri: str = "picamera2") -> Source:
    return make_source(CameraSettings(source=uri))


def test_red_stays_red_and_every_request_goes_back_to_the_camera(picamera2: type[Picamera2]) -> None:
    source = source_of()
    source.open()
    for _ in range(3):
        assert source.grab()
        assert source.retrieve(FrameBuffers())[240, 320].tolist() == [200, 100, 50]
    assert source.grab()  # a frame that the rate limit skips
    source.close()
    assert picamera2.log == ["configure", "start", *["release"] * 4, "close"]


def test_another_order_of_colours_is_not_taken(picamera2: type[Picamera2]) -> None:
    picamera2.settles_for = "RGB888"
    with pytest.raises(CameraError, match="RGB888, in which red and blue"):
        source_of().open()
    assert picamera2.log == ["configure", "close"]


def test_a_silent_camera_is_opened_again(picamera2: type[Picamera2]) -> None:
    source = source_of()
    source.open()
    picamera2.stalled = True
    with pytest.raises(CameraError, match="stopped delivering") as error:
        source.grab()
    assert not isinstance(error.value, LostCameraError)
    source.close()
    assert picamera2.log[-1] == "close"


def test_an_unplugged_camera_is_lost_and_not_closed(picamera2: type[Picamera2]) -> None:
    picamera2.system_devices = (0xFFFFF,)  # its node has disappeared from /sys
    source = source_of()
    source.open()
    picamera2.stalled = True
    with pytest.raises(LostCameraError, match="unplugged"):
        source.grab()
    source.close()
    assert "close" not in picamera2.log


def test_a_camera_that_is_not_there_is_a_sentence(picamera2: type[Picamera2]) -> None:
    with pytest.raises(CameraError, match=r"picamera2:1 cannot be opened .* check the ribbon cable"):
        source_of("picamera2:1").open()
