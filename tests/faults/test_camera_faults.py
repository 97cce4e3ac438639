"""Tests that the box continues whatever a camera does, reports each fault once, and loses no event."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.camera.geometry import Geometry
from edge.camera.source import LostCameraError, Source, UnreadablePictureError
from edge.camera.v4l2 import Node, V4L2Source
from edge.errors import CameraError
from edge.settings.schema import CameraSettings
from tests.broker import Brokers, Mosquitto, Subscriber, eventually
from tests.camera.fakes import FakeCamera
from tests.daemon_process import CHECKOUT, SLACK_S, START_WITHIN_S, STOP_WITHIN_S, Daemon
from tests.delivery.room import stored_ids
from tests.faults.box import Box, box

NO_BROKER = "mqtt://127.0.0.1:9"


@pytest.fixture
def camera() -> Iterator[FakeCamera]:
    made = FakeCamera(size=(64, 48))
    yield made
    made.unblock.set()


@pytest.fixture
def broker(brokers: Brokers) -> Mosquitto:
    return brokers.start()


@pytest.fixture
def subscriber(brokers: Brokers, broker: Mosquitto) -> Subscriber:
    return brokers.subscribe(broker)


def write_video(path: Path, levels: list[int], size: tuple[int, int] = (64, 48)) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, size)
    for level in levels:
        writer.write(np.full((size[1], size[0], 3), level, np.uint8))
    writer.release()


def show_one_by_one(made: Box, camera: FakeCamera, levels: list[int]) -> None:
    for level in levels:
        before = made.counter("events_made")
        camera.show(level)
        made.wait_made(before + 1)


def wait_delivered(made: Box) -> None:
    eventually(
        lambda: made.counter("events_published") + made.counter("events_replayed") >= made.counter("events_made"),
        "every event is acknowledged",
    )


def test_a_camera_that_ends_is_opened_again_and_every_event_arrives(
    tmp_path: Path, camera: FakeCamera, broker: Mosquitto, subscriber: Subscriber
) -> None:
    with box(broker.url, tmp_path / "log.db", camera) as made:
        for _ in range(3):
            show_one_by_one(made, camera, [10, 20, 30])
            camera.show(CameraError("The stream has ended; check the camera."))
            eventually(lambda: made.gauge("camera") == "waiting", "the end is reported")
        show_one_by_one(made, camera, [40])
        wait_delivered(made)
        eventually(lambda: subscriber.on("camera/availability")[-1].payload == b"online", "the camera is online again")
        made.stop()
        assert made.counter("camera_reopens") == 3
        assert len(made.account(subscriber)) == 10


def test_a_video_that_ends_is_shown_to_its_last_frame(
    tmp_path: Path, testdata: Path, broker: Mosquitto, subscriber: Subscriber
) -> None:
    uri = f"file:{testdata / 'video' / 'vtest.avi'}"
    with box(broker.url, tmp_path / "log.db", source=uri, size=(160, 120), stall_after_s=5) as made:
        eventually(made.pipeline.ended.is_set, "the video is over")
        wait_delivered(made)
        made.stop()
        assert made.counter("frames_captured") == 795
        assert len(made.account(subscriber)) == 795


@pytest.mark.parametrize("call", ["grab", "close"])
def test_a_call_that_never_returns_does_not_stop_the_flush(tmp_path: Path, camera: FakeCamera, call: str) -> None:
    """There is no broker either: all events are on disk before the process would exit for systemd to restart it."""
    with box(NO_BROKER, tmp_path / "log.db", camera) as made:
        show_one_by_one(made, camera, [1, 2, 3, 4, 5])
        camera.block_in = call
        camera.show(6 if call == "grab" else CameraError("It was unplugged."))
        blocked_at = time.monotonic()
        made.wait_overdue()
        assert set(made.status.overdue()) == {"camera"}, "only the camera is stuck, and it shows"
        assert made.delivery.flush(5), "the log takes what is unsent although the camera blocks"
        assert time.monotonic() - blocked_at < 15
        assert not made.capture.stop(0.1)
        made.stop()
        assert len(made.account(None)) >= 5


def test_a_lost_camera_shows_at_once_and_does_not_stop_the_flush(tmp_path: Path, camera: FakeCamera) -> None:
    with box(NO_BROKER, tmp_path / "log.db", camera, stall_after_s=60) as made:
        show_one_by_one(made, camera, [1, 2, 3])
        camera.show(LostCameraError("It was unplugged; plug it in."))
        made.wait_overdue()  # long before stall_after_s
        assert made.delivery.flush(5)
        made.stop()
        assert camera.closed == 0
        assert len(made.account(None)) == 3


def test_black_frames_are_looked_at_like_any_other(
    tmp_path: Path, camera: FakeCamera, broker: Mosquitto, subscriber: Subscriber
) -> None:
    with box(broker.url, tmp_path / "log.db", camera) as made:
        show_one_by_one(made, camera, [0] * 20)
        wait_delivered(made)
        made.stop()
        assert made.counter("camera_errors") == 0
        assert len(made.account(subscriber)) == 20
    assert {message.json()["label"] for message in subscriber.on("event")} == {"grey 0"}


def test_torn_frames_are_counted_and_the_next_whole_one_is_an_event(
    tmp_path: Path, camera: FakeCamera, broker: Mosquitto, subscriber: Subscriber
) -> None:
    with box(broker.url, tmp_path / "log.db", camera) as made:
        for level in range(10):
            camera.show(UnreadablePictureError("Torn."), UnreadablePictureError("Torn."))
            show_one_by_one(made, camera, [level])
        wait_delivered(made)
        made.stop()
        assert made.counter("frames_unreadable") == 20
        assert camera.opened == 1
        assert len(made.account(subscriber)) == 10


@pytest.mark.parametrize("seed", range(12))
def test_a_video_with_damaged_bytes_never_ends_the_box(tmp_path: Path, seed: int) -> None:
    """A real decoder reads damaged pictures: whatever decodes is classified, the rest is counted or ends the video."""
    video = tmp_path / "torn.avi"
    write_video(video, list(range(0, 250, 5)))
    content = bytearray(video.read_bytes())
    noise = random.Random(seed)
    for _ in range(noise.randrange(1, 200)):
        content[noise.randrange(200, len(content))] = noise.randrange(256)
    if seed % 3 == 0:
        del content[noise.randrange(len(content) // 2, len(content)) :]
    video.write_bytes(content)
    with box(NO_BROKER, tmp_path / "log.db", source=f"file:{video}", stall_after_s=5) as made:
        eventually(
            lambda: made.pipeline.ended.is_set() or made.counter("camera_errors"), "the video is over or refused"
        )
        assert made.pipeline.failure is None
        assert "camera" not in made.status.overdue()
        made.stop()
        made.account(None)


def test_a_change_of_resolution_is_followed(
    tmp_path: Path, camera: FakeCamera, broker: Mosquitto, subscriber: Subscriber
) -> None:
    with box(broker.url, tmp_path / "log.db", camera, rotate=90) as made:
        for level, size in enumerate([(64, 48), (320, 240), (48, 64), (1280, 720), (64, 48)]):
            camera.size = size
            show_one_by_one(made, camera, [level])
            assert made.gauge("camera_size") == list(size)
        wait_delivered(made)
        made.stop()
        assert len(made.account(subscriber)) == 5
    assert [m.json()["label"] for m in subscriber.on("event")] == [f"grey {level}" for level in range(5)]


def test_real_photos_of_many_sizes_follow_each_other(tmp_path: Path, testdata: Path) -> None:
    folder = testdata / "photos" / "calibration"
    with box(NO_BROKER, tmp_path / "log.db", source=f"file:{folder}", stall_after_s=5) as made:
        eventually(made.pipeline.ended.is_set, "the folder is over")
        made.stop()
        assert made.counter("frames_unreadable") == 0
        assert len(made.account(None)) == 125


def test_a_camera_that_comes_back_under_another_number_is_found_by_its_id(
    tmp_path: Path, broker: Mosquitto, subscriber: Subscriber
) -> None:
    """A tree like /dev with links like udev's; video files stand in for the device nodes."""
    dev = tmp_path / "dev"
    by_id = dev / "v4l" / "by-id" / "usb-Some_Camera-video-index0"
    by_id.parent.mkdir(parents=True)

    def plug(number: int, level: int) -> None:
        write_video(dev / f"video{number}.avi", [level] * 5)
        (dev / f"video{number}.avi").rename(dev / f"video{number}")
        by_id.symlink_to(f"../../video{number}")

    def ask(node: Path) -> Node:
        node.stat()
        return Node("uvcvideo", "Some Camera", captures=True)

    def start(node: str) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(node)
        Path(node).unlink()  # it delivers what it has read, then ends
        by_id.unlink()
        return capture

    def make(settings: CameraSettings) -> Source:
        return V4L2Source(str(by_id), settings, Geometry(settings), dev=dev, query_node=ask, start=start)

    plug(0, level=50)
    with box(broker.url, tmp_path / "log.db", make) as made:
        eventually(lambda: "is not there; plug the camera in" in made.gauge("camera_error"), "its absence is reported")
        plug(2, level=200)
        eventually(lambda: made.counter("frames_captured") == 10, "the camera under its new number is found")
        eventually(lambda: made.gauge("camera") == "waiting", "and its end is seen")
        wait_delivered(made)
        made.stop()
        made.account(subscriber)
    levels = {int(message.json()["label"].removeprefix("grey ")) for message in subscriber.on("event")}
    assert {round(level, -1) for level in levels} == {50, 200}


@pytest.mark.parametrize("seed", range(3))
def test_a_camera_that_fails_at_random_is_accounted_for(
    tmp_path: Path, camera: FakeCamera, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Errors when opening, reading and decoding, in any order: frames and events add up, and the log stays short."""
    noise = random.Random(seed)
    shown = 0
    with box(NO_BROKER, tmp_path / "log.db", camera) as made:
        for _ in range(3):
            for _ in range(noise.randrange(1, 60)):
                wrong = noise.random() < 0.3
                camera.show(UnreadablePictureError("Torn.") if wrong else noise.randrange(256))
                shown += not wrong
            camera.open_errors += [CameraError("Busy; stop the other program.")] * noise.randrange(2)
            camera.show(CameraError("The cable is loose; push it in."))
        eventually(lambda: made.counter("frames_captured") == shown, "all pictures were read", 60)
        eventually(lambda: made.counter("camera_errors") >= 3, "all errors were met")
        made.stop()
        made.account(None)
    lines = [record for record in caplog.records if record.name == "edge.camera"]
    assert len(lines) <= 2 * 8 + 2, "one line a state change, none a frame"


def test_a_blocked_read_needs_no_human(
    tmp_path: Path, bundle_dir: Path, broker: Mosquitto, subscriber: Subscriber
) -> None:
    """The real daemon with the default limits: the read blocks, events are flushed, the process exits and restarts."""
    config = tmp_path / "config.toml"
    config.write_text(
        f"""
        [device]
        name = "porch"
        [model]
        bundle = "{bundle_dir}"
        threads = 1
        [decision]
        every_frame = true
        [mqtt]
        url = "{broker.url}"
        [fallback]
        path = "{tmp_path / "state" / "fallback.db"}"
        [web]
        enabled = false
        """,
        encoding="utf-8",
    )
    unit = (CHECKOUT / "systemd" / "edge-classifier.service").read_text(encoding="utf-8")
    restart_s = float(unit.split("RestartSec=")[1].split()[0])
    stuck = [sys.executable, str(CHECKOUT / "tests" / "stuck_camera.py"), str(config)]
    times: list[float] = []
    made = 0
    for frames, run in (("40", 1), ("100000", 2)):
        daemon = Daemon([*stuck, frames], tmp_path / f"run{run}")
        try:
            # The first run loads a model first, so its camera may already be stuck.
            eventually(lambda made=made: len(subscriber.ids("event")) > made, "an event came", START_WITHIN_S)
            times.append(subscriber.on("event")[made].at)
            if run == 1:
                assert daemon.wait(within_s=60) == 75
                times.append(time.monotonic())
                assert "Restarting because camera has not moved" in daemon.log
                made = len(subscriber.ids("event"))
                times.insert(1, subscriber.on("event")[-1].at)
            else:
                assert daemon.stop() <= STOP_WITHIN_S + SLACK_S
        finally:
            daemon.close()
    _, last_event, ended, back = times
    recovery_s = back - last_event + restart_s
    print(
        f"\nblocked camera read: {recovery_s:.1f} s from the last event to the next: {ended - last_event:.1f} s to see"
        f" it and leave, {restart_s:g} s RestartSec, {back - ended:.1f} s to start (promised: 15 s)"
    )
    assert recovery_s < 60  # the promise is 15 s; the rest is tolerance for a busy machine
    for prefix in {event.rsplit("-", 1)[0] for event in subscriber.ids("event")}:
        run_ids = [*subscriber.ids("event"), *subscriber.ids("replay"), *stored_ids(tmp_path / "state" / "fallback.db")]
        numbers = sorted({int(i.rsplit("-", 1)[1]) for i in run_ids if i.startswith(prefix + "-")})
        assert numbers == list(range(len(numbers))), "an event is missing"
