"""Tests that JPEGs in a row are a video, whatever lies between them, and that a photo with a preview is a photo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from edge.camera.capture import Capture
from edge.camera.file import FileSource
from edge.camera.geometry import FrameBuffers, Geometry
from edge.camera.source import UnreadablePictureError
from edge.errors import CameraError
from edge.settings.schema import CameraSettings
from edge.status.snapshot import Status
from tests.camera.clips import numbered, write_clip

Start = Callable[..., Capture]


def jpeg(number: int, *options: int, width: int = 64) -> bytes:
    pixels = cv2.resize(numbered(number), (width, width * 3 // 4), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", pixels, options)[1].tobytes()


def shown(path: Path) -> tuple[list[float], int]:
    """How bright the left half of each picture is, and how many pictures were unreadable."""
    source = FileSource(str(path), Geometry(CameraSettings()))
    source.open()
    found, unreadable = [], 0
    while source.grab():
        try:
            found.append(float(source.retrieve(FrameBuffers())[:, :28].mean()))
        except UnreadablePictureError:
            unreadable += 1
    source.close()
    return found, unreadable


def levels(numbers: range | list[int]) -> object:
    return pytest.approx([number * 2 for number in numbers], abs=4)


@pytest.mark.parametrize("name", ["clip.mjpeg", "clip.MJPG", "clip", "clip.bin", "clip.jpg"])
def test_jpegs_in_a_row_are_a_video(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"".join(map(jpeg, range(20))))
    assert shown(path) == (levels(range(20)), 0)


def test_a_pis_recording_is_shown_whole(testdata: Path, capture_of: Start, status: Status) -> None:
    if not (path := testdata / "cases" / "scenes.mjpeg").is_file():
        pytest.skip("the test data have no folder cases")
    capture = capture_of(source=f"file:{path}")
    times = []
    while not capture.ended:
        if (frame := capture.take(5)) is not None:
            times.append(frame.captured_ns / 1e9)
    assert len(times) == 200
    assert times[-1] - times[0] == pytest.approx(199 / 25)
    assert "frames_unreadable" not in status.snapshot().counters


BETWEEN = {
    "zeros": bytes(5000),
    "text": b"\r\n--boundary\r\nContent-Type: image/jpeg\r\nContent-Length: 7\r\n\r\n",
    "markers": b"\xff\xd9\xff\xd9\xff\xff\xd8",
    "more than is read at once": b"\xaa" * 600_000,
}


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
def test_what_lies_between_the_pictures_is_skipped(between: str, options: tuple[int, ...], tmp_path: Path) -> None:
    path = tmp_path / "clip.mjpeg"
    path.write_bytes(BETWEEN[between].join([b"", *(jpeg(number, *options) for number in range(8)), b""]))
    assert shown(path) == (levels(range(8)), 0)


@pytest.mark.parametrize("share", [0.01, 0.15, 0.5, 0.98])
@pytest.mark.parametrize("torn", [0, 3, 7])
@pytest.mark.parametrize("name", ["clip.mjpeg", "clip"])
def test_a_torn_picture_costs_itself_only(share: float, torn: int, name: str, tmp_path: Path) -> None:
    pictures = [jpeg(number) for number in range(8)]
    pictures[torn] = pictures[torn][: int(share * len(pictures[torn]))]
    path = tmp_path / name
    path.write_bytes(b"".join(pictures))
    assert shown(path) == (levels([number for number in range(8) if number != torn]), 1)


def test_torn_pictures_are_counted_and_reported_once(
    tmp_path: Path, capture_of: Start, status: Status, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "clip.mjpeg"
    path.write_bytes(b"".join(jpeg(number)[: -2000 if number % 3 == 1 else None] for number in range(12)))
    capture = capture_of(source=f"file:{path}", loop=True)
    times = [frame.captured_ns / 1e9 for _ in range(24) if (frame := capture.take(5)) is not None]
    assert status.snapshot().counters["frames_unreadable"] >= 11
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    assert times[8] - times[0] == pytest.approx(12 / 25), "the time of torn pictures passes too"


def test_thumbnails_are_no_pictures(tmp_path: Path) -> None:
    thumbnail = jpeg(99)
    exif = b"\xff\xe1" + (2 + 6 + len(thumbnail)).to_bytes(2, "big") + b"Exif\0\0" + thumbnail
    path = tmp_path / "clip.mjpeg"
    path.write_bytes(b"".join(b"\xff\xd8" + exif + jpeg(number)[2:] for number in range(5)))
    assert shown(path) == (levels(range(5)), 0)


def test_one_picture_is_a_video_of_one_picture(tmp_path: Path, capture_of: Start) -> None:
    path = tmp_path / "clip.mjpeg"
    path.write_bytes(jpeg(5))
    assert shown(path) == (levels([5]), 0)
    capture = capture_of(source=f"file:{path}", loop=True)
    assert all(capture.take(5) for _ in range(3))


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff"])
def test_a_recording_without_a_picture_is_a_sentence_and_no_endless_loop(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "clip.mjpeg"
    path.write_bytes(content)
    source = FileSource(str(path), Geometry(CameraSettings()), loop=True)
    source.open()
    if len(content) == 3:
        assert source.grab()
        with pytest.raises(UnreadablePictureError):
            source.retrieve(FrameBuffers())
    with pytest.raises(CameraError, match="holds no picture"):
        source.grab()
    source.close()


@pytest.mark.parametrize("preview", [jpeg(9, width=32), jpeg(9)[:-40], b"\0\0\0\x18ftypmp42 a motion photo"])
def test_a_photo_with_something_behind_it_is_one_photo(preview: bytes, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    photo = jpeg(1, width=128)
    path.write_bytes(photo + preview)
    assert shown(path)[0] == [pytest.approx(shown_alone(photo, tmp_path), abs=0.01)]


def shown_alone(photo: bytes, tmp_path: Path) -> float:
    (tmp_path / "alone.jpg").write_bytes(photo)
    return shown(tmp_path / "alone.jpg")[0][0]


def test_a_stereo_photo_is_one_photo(tmp_path: Path) -> None:
    """Its two pictures are of one size, and its first announces the second."""
    announced = b"\xff\xe2\x00\x0aMPF\0II*\0"
    path = tmp_path / "photo.mpo"
    path.write_bytes(b"\xff\xd8" + announced + jpeg(1)[2:] + jpeg(2))
    assert shown(path) == (levels([1]), 0)


def test_an_avi_by_the_name_of_an_mjpeg_recording_is_read_as_what_it_is(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.avi", 6, "MJPG").rename(tmp_path / "clip.mjpg")
    assert len(shown(tmp_path / "clip.mjpg")[0]) == 6


def test_pictures_may_change_their_size(tmp_path: Path) -> None:
    path = tmp_path / "clip.mjpeg"
    path.write_bytes(jpeg(1) + jpeg(2, width=320) + jpeg(3))
    assert len(shown(path)[0]) == 3


def test_a_hole_is_skipped(tmp_path: Path) -> None:
    content = bytearray(b"".join(jpeg(number) for number in range(100)))
    content[len(content) * 2 // 5 : len(content) * 3 // 5] = bytes(len(content) * 3 // 5 - len(content) * 2 // 5)
    path = tmp_path / "clip.mjpeg"
    path.write_bytes(content)
    found, unreadable = shown(path)
    assert found[-30:] == levels(range(70, 100))
    assert 75 < len(found) <= 80
    assert unreadable <= 1
