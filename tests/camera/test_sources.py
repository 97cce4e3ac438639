"""Tests that a URI selects its source, and that one that cannot be opened gives a sentence without credentials."""

from __future__ import annotations

import importlib.util
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.camera import auto, csi, raspberry, v4l2
from edge.camera.auto import AutoSource
from edge.camera.csi import CsiSource
from edge.camera.file import FileSource
from edge.camera.geometry import FrameBuffers, Geometry
from edge.camera.raspberry import Picamera2Source
from edge.camera.rtsp import RtspSource
from edge.camera.source import Source, make_source
from edge.camera.v4l2 import V4L2Source
from edge.errors import CameraError
from edge.settings.schema import CameraSettings
from tests.camera.fakes import FakeCamera


@pytest.mark.parametrize(
    ("uri", "kind", "live"),
    [
        ("file:/nowhere.avi", FileSource, False),
        ("v4l2:0", V4L2Source, True),
        ("v4l2:/dev/v4l/by-id/usb-Some_Camera-video-index0", V4L2Source, True),
        ("rtsp://host/stream", RtspSource, True),
        ("rtsps://host/stream", RtspSource, True),
        ("csi://1", CsiSource, True),
        ("picamera2", Picamera2Source, True),
        ("picamera2:1", Picamera2Source, True),
        ("auto", AutoSource, True),
    ],
)
def test_each_uri_has_its_source_and_making_one_opens_nothing(uri: str, kind: type, live: bool) -> None:
    source = make_source(CameraSettings(source=uri))
    assert type(source) is kind
    assert source.live == live
    source.close()  # harmless when it is not open
    with pytest.raises(CameraError, match="open"):
        source.grab()


# --- V4L2


def test_a_camera_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    source = V4L2Source("7", CameraSettings(), Geometry(CameraSettings()), dev=tmp_path)
    with pytest.raises(CameraError, match="v4l2:7 is not there; plug the camera in"):
        source.open()


def test_what_is_no_camera_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "video0").write_text("a file", encoding="utf-8")
    source = V4L2Source("0", CameraSettings(), Geometry(CameraSettings()), dev=tmp_path)
    with pytest.raises(CameraError, match="no V4L2 device"):
        source.open()


def test_the_by_id_name_of_a_number_is_found(tmp_path: Path) -> None:
    by_id = tmp_path / "v4l" / "by-id"
    by_id.mkdir(parents=True)
    for number in (0, 2):
        (tmp_path / f"video{number}").touch()
    (by_id / "usb-Cam-video-index0").symlink_to("../../video2")
    assert v4l2.stable_name(tmp_path / "video2", tmp_path) == by_id / "usb-Cam-video-index0"
    assert v4l2.stable_name(tmp_path / "video0", tmp_path) is None
    assert v4l2.cameras(tmp_path) == []  # plain files answer no ioctl


def test_a_link_that_a_udev_rule_has_made_beside_the_numbers_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (0, 10, 2):
        (tmp_path / f"video{number}").touch()
    (tmp_path / "video0_front").symlink_to("video0")
    monkeypatch.setattr(v4l2, "query", lambda node: v4l2.Node("uvcvideo", "a camera", True))
    assert [camera.name for camera in v4l2.cameras(tmp_path)] == ["video0", "video2", "video10"]


# --- RTSP


@pytest.fixture
def silent_server() -> Iterator[int]:
    """Accepts connections and never sends anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_silent_camera_is_given_up_in_time_and_its_password_never_shown(
    silent_server: int, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    settings = CameraSettings(source=f"rtsp://user:s3cret@127.0.0.1:{silent_server}/live", stall_after_s=2)
    source = make_source(settings)
    assert source.name == f"rtsp://***@127.0.0.1:{silent_server}/live"
    began = time.monotonic()
    with pytest.raises(CameraError, match=r"check its address, user and password") as error:
        source.open()
    assert time.monotonic() - began < 10
    out, err = capfd.readouterr()
    assert "s3cret" not in str(error.value) + out + err + caplog.text
    assert "user" not in err


def test_a_camera_that_refuses_is_a_sentence(silent_server: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    source = make_source(CameraSettings(source=f"rtsp://127.0.0.1:{port}/live"))
    with pytest.raises(CameraError, match="cannot be opened"):
        source.open()


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://u:s3cret@host/a",
        "rtsp://u:s3@cret@host/a",
        "rtsp://host/user=u&password=s3cret&channel=1",
        "rtsp://host/a?user=u&pwd=s3cret",
    ],
)
def test_no_form_of_password_is_shown(url: str) -> None:
    name = make_source(CameraSettings(source=url)).name
    assert "cret" not in name
    assert "host" in name


# --- CSI


def test_without_gstreamer_csi_says_what_is_missing() -> None:
    if csi.has_gstreamer():
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(CameraError, match="needs an OpenCV with GStreamer"):
        make_source(CameraSettings(source="csi://0")).open()


def test_the_jetsons_pipeline_keeps_the_sensors_aspect_and_the_newest_picture_only() -> None:
    settings = CameraSettings(source="csi://1", size=(640, 480))
    pipeline = CsiSource(1, settings, Geometry(settings)).pipeline()
    assert "nvarguscamerasrc sensor-id=1 " in pipeline
    assert "width=640,height=360" in pipeline  # 16:9, as the sensor
    assert "drop=true max-buffers=1" in pipeline


# --- picamera2


def test_without_picamera2_the_sentence_names_the_package() -> None:
    if importlib.util.find_spec("picamera2"):
        pytest.skip("picamera2 is installed")
    with pytest.raises(CameraError, match="apt install python3-picamera2"):
        make_source(CameraSettings(source="picamera2")).open()


def test_usb_cameras_are_left_to_v4l2() -> None:
    class Module:
        class Picamera2:
            @staticmethod
            def global_camera_info() -> list[dict[str, object]]:
                return [
                    {"Num": 0, "Id": "/base/axi/pcie@1000120000/usb@200000-1:1.0-046d:0825"},
                    {"Num": 1, "Id": "/base/axi/pcie@1000120000/rp1/i2c@88000/imx708@1a"},
                ]

    assert raspberry.cameras(Module) == [1]


# --- auto


def test_auto_takes_the_first_that_opens_and_looks_again_each_time() -> None:
    cameras = {uri: FakeCamera() for uri in ("v4l2:/dev/video0", "v4l2:/dev/video1")}
    for uri, camera in cameras.items():
        camera.name = uri
    cameras["v4l2:/dev/video0"].open_errors = [CameraError("Busy.")]
    present = ["v4l2:/dev/video0", "v4l2:/dev/video1"]

    def make(settings: CameraSettings) -> Source:
        return cameras[settings.source]

    source = AutoSource(CameraSettings(), make, lambda: list(present))
    source.open()
    assert source.name == "v4l2:/dev/video1"
    cameras["v4l2:/dev/video1"].show(9)
    assert source.grab()
    assert np.all(source.retrieve(FrameBuffers()) == 9)
    source.close()
    present.pop()  # it disappears, and the other is free now
    source.open()
    assert source.name == "v4l2:/dev/video0"
    source.close()
    assert cameras["v4l2:/dev/video1"].closed == 1


def test_auto_raises_the_first_cameras_error_or_that_there_is_none() -> None:
    camera = FakeCamera()
    camera.open_errors = [CameraError("First."), CameraError("Second.")]
    with pytest.raises(CameraError, match="First"):
        AutoSource(CameraSettings(), camera, lambda: ["v4l2:0", "v4l2:1"]).open()
    with pytest.raises(CameraError, match="No camera was found"):
        AutoSource(CameraSettings(), camera, lambda: []).open()


def test_looking_for_cameras_never_fails() -> None:
    assert all(isinstance(uri, str) for uri in auto.found_cameras())


def test_opencv_prints_nothing(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(CameraError):
            make_source(CameraSettings(source=f"file:{tmp_path / 'text.mp4'}")).open()
    assert capfd.readouterr().err == ""
