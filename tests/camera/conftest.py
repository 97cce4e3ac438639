"""Fixtures for the tests of the camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from edge.camera.capture import Capture
from edge.settings.schema import CameraSettings
from edge.status.snapshot import Status
from tests.camera.fakes import FakeCamera


@pytest.fixture
def status() -> Status:
    return Status()


@pytest.fixture
def capture_of(status: Status) -> Iterator[Callable[..., Capture]]:
    """Starts a Capture, and ends it after the test even if its camera blocks."""
    running: list[tuple[Capture, FakeCamera | None]] = []

    def start(camera: FakeCamera | None = None, *, on_status: Status | None = None, **options: object) -> Capture:
        names = set(CameraSettings.model_fields)
        settings = CameraSettings(**{k: v for k, v in options.items() if k in names})  # type: ignore[arg-type]
        rest = {k: v for k, v in options.items() if k not in names}
        if camera is not None:
            rest["make"] = camera
        capture = Capture(settings, on_status or status, **rest)  # type: ignore[arg-type]
        running.append((capture, camera))
        capture.start()
        return capture

    yield start
    for capture, camera in running:
        if camera is not None:
            camera.unblock.set()
        capture.stop(20)
    assert not [t for t in threading.enumerate() if t.name == "capture"], "the capture thread did not end"


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Waits for another thread; the deadline is long because the machine may be busy."""

    def wait(condition: Callable[[], bool], what: str = "", deadline_s: float = 20.0) -> None:
        end = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < end, f"did not happen within {deadline_s} s: {what or condition}"
            time.sleep(0.005)

    return wait
