"""Tests what the header of a video decides: which way up it is, and why it cannot be read."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.camera.container import VideoHeader, codec_name, read_header
from edge.camera.file import FileSource
from edge.camera.geometry import FrameBuffers, Geometry
from edge.errors import CameraError
from edge.frames import Pixels
from edge.settings.schema import CameraSettings
from tests.camera.clips import boxes, set_matrix, write_clip, zero

# The matrix, and what a player then does with each picture.
MATRICES: dict[str, tuple[tuple[int, int, int, int], Callable[[Pixels], Pixels]]] = {
    "upright": ((1, 0, 0, 1), lambda picture: picture),
    "90° clockwise": ((0, 1, -1, 0), lambda picture: np.rot90(picture, -1)),
    "180°": ((-1, 0, 0, -1), lambda picture: np.rot90(picture, 2)),
    "270° clockwise": ((0, -1, 1, 0), lambda picture: np.rot90(picture, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda picture: picture[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda picture: picture[::-1]),
    "mirrored and 90°": ((0, 1, 1, 0), lambda picture: picture.transpose(1, 0, 2)),
    "mirrored and 270°": ((0, -1, -1, 0), lambda picture: picture[::-1, ::-1].transpose(1, 0, 2)),
}


def first_picture(path: Path, **options: object) -> Pixels:
    source = FileSource(str(path), Geometry(CameraSettings(**options)))  # type: ignore[arg-type]
    source.open()
    try:
        assert source.grab()
        return source.retrieve(FrameBuffers())
    finally:
        source.close()


def refusal(path: Path, *, loop: bool = False) -> str:
    """The sentence with which a file is refused."""
    source = FileSource(str(path), Geometry(CameraSettings()), loop=loop)
    try:
        source.open()
        source.grab()
    except CameraError as error:
        return str(error)
    finally:
        source.close()
    pytest.fail(f"{path} was read")


@pytest.mark.parametrize("container", ["mp4", "mov"])
@pytest.mark.parametrize("matrix", MATRICES)
def test_a_video_is_shown_as_its_matrix_asks(matrix: str, container: str, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / f"clip.{container}", 2)
    plain = first_picture(clip)
    values, turn = MATRICES[matrix]
    assert np.array_equal(first_picture(set_matrix(clip, *values)), turn(plain))


def test_crop_and_rotation_apply_to_the_upright_picture(tmp_path: Path) -> None:
    clip = set_matrix(write_clip(tmp_path / "clip.mp4", 2), 0, 1, -1, 0)
    upright = first_picture(clip)
    assert upright.shape == (64, 48, 3)
    turned = first_picture(clip, crop=[0, 0.5, 1, 0.5], rotate=90)
    assert np.array_equal(turned, np.rot90(upright[32:], -1))


def test_a_phones_video_is_upright_with_every_opencv(testdata: Path) -> None:
    if not (path := testdata / "cases" / "phone90.mp4").is_file():
        pytest.skip("the test data have no folder cases")
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
    _, stored = capture.read()
    expected = np.rot90(stored[..., ::-1], 1)  # its matrix is (0, -1, 1, 0)
    assert np.abs(first_picture(path).astype(int) - expected).max() <= 1


def test_a_codec_that_is_missing_is_named(testdata: Path) -> None:
    """Debian's OpenCV may know AV1, PyPI's does not."""
    if not (path := testdata / "cases" / "av1.mp4").is_file():
        pytest.skip("the test data have no folder cases")
    assert read_header(path).codec == "AV1"
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if capture.grab():
        assert first_picture(path).shape == (240, 320, 3)
    else:
        assert "gives no picture; its pictures are AV1, which this OpenCV may not know" in refusal(path)
        assert "gives no picture" in refusal(path, loop=True)


@pytest.mark.parametrize(
    ("container", "codec", "named", "other", "name"),
    [
        ("mp4", "mp4v", b"mp4v", b"vvi1", "H.266 (VVC)"),
        ("mov", "mp4v", b"mp4v", b"zzzz", "zzzz"),
        ("mkv", "mp4v", b"V_MPEG4/ISO/ASP", b"V_UNKNOWN/VIDEO", "V_UNKNOWN/VIDEO"),
        ("avi", "XVID", b"XVID", b"ZZZZ", "ZZZZ"),
    ],
)
def test_every_container_names_the_codec_that_opencv_does_not_know(
    container: str, codec: str, named: bytes, other: bytes, name: str, tmp_path: Path
) -> None:
    path = write_clip(tmp_path / f"clip.{container}", 5, codec)
    content = path.read_bytes()
    assert named in content
    path.write_bytes(content.replace(named, other).replace(b"esds", b"free"))  # which names an MP4's codec once more
    assert f"its pictures are {name}, which this OpenCV may not know" in refusal(path)
    assert "Convert it" in refusal(path)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("hev1", "H.265 (HEVC)"),
        ("HEVC", "H.265 (HEVC)"),
        ("V_VP9", "VP9"),
        ("ap4h", "ProRes"),
        ("\0\0\0\0", ""),
        ("\x1b\0\0\0", ""),
    ],
)
def test_codecs_have_the_names_that_people_know(code: str, name: str) -> None:
    assert codec_name(code) == name


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_a_recording_without_its_index_is_a_sentence(share: float, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 60)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "its index (moov) is missing" in refusal(path)


def test_no_damage_to_an_mp4s_header_is_a_traceback(tmp_path: Path) -> None:
    content = write_clip(tmp_path / "clip.mp4", 4).read_bytes()
    moov = boxes(content, [b"moov"])[0]
    path = tmp_path / "damaged.mp4"
    for at in [*range(0, 200, 7), *range(moov, len(content), 7)]:
        path.write_bytes(content[:at])
        read_header(path)
        path.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
        read_header(path)


def test_a_heic_photo_is_no_interrupted_recording(tmp_path: Path) -> None:
    path = tmp_path / "photo.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x0cmeta\0\0\0\0")
    assert read_header(path) == VideoHeader()


def test_a_video_that_is_cut_off_is_shown_up_to_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_clip(tmp_path / "clip.mkv", 60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = FileSource(str(path), Geometry(CameraSettings()))
    source.open()
    pictures = sum(iter(source.grab, False))
    source.close()
    assert 10 < pictures < 50
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "although its header states 0:00:06.0" in warning


def longer_sound(path: Path) -> Path:
    """State 60 s as the duration of the whole, as with a sound that goes on after the last picture."""
    content = bytearray(path.read_bytes())
    if path.suffix == ".mkv":
        at = content.index(b"\x44\x89\x88")  # element Duration, of 8 bytes, in milliseconds
        struct.pack_into(">d", content, at + 3, 60_000.0)
    else:
        (scale,) = struct.unpack_from(">I", content, boxes(content, [b"moov", b"mvhd"])[-1] + 20)
        struct.pack_into(">I", content, boxes(content, [b"moov", b"trak", b"tkhd"])[-1] + 28, 60 * scale)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_a_video_whose_sound_is_longer_is_not_damaged(
    container: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An MP4 may also show its pictures after a pause, which the duration of its track includes."""
    read_all(longer_sound(write_clip(tmp_path / f"clip.{container}", 60)))
    assert caplog.records == []


@pytest.mark.parametrize("keep", [0.5, 0.9])
@pytest.mark.parametrize("rest", [b"", b"\0"], ids=["cut off", "zeros"])
@pytest.mark.parametrize("container", ["mkv", "avi"])
def test_a_video_that_ends_early_is_reported(
    container: str, rest: bytes, keep: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = (
        longer_sound(write_clip(tmp_path / "clip.mkv", 60))
        if container == "mkv"
        else write_clip(tmp_path / "clip.avi", 200, "MJPG")
    )
    content = path.read_bytes()
    there = int(len(content) * keep)
    path.write_bytes(content[:there] + rest * (len(content) - there))
    read_all(path)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "although its header states" in warning


def read_all(path: Path) -> None:
    source = FileSource(str(path), Geometry(CameraSettings()))
    source.open()
    while source.grab():
        pass
    source.close()


READS = """\
import sys
from edge.camera.capture import FAILURES
from edge.camera.source import make_source
from edge.camera.geometry import FrameBuffers
from edge.settings.schema import CameraSettings
for path in sys.argv[1:]:
    source = make_source(CameraSettings(source=f"file:{path}"))
    try:
        source.open()
        while source.grab():
            source.retrieve(FrameBuffers())
    except FAILURES:
        pass
"""


def test_libraries_print_nothing_about_damaged_videos(tmp_path: Path) -> None:
    clips = []
    for container, codec in (("mp4", "mp4v"), ("avi", "MJPG"), ("avi", "XVID"), ("mkv", "mp4v"), ("ts", "mp4v")):
        clips.append(zero(write_clip(tmp_path / f"{codec}.{container}", 60, codec), (0.4, 0.6)))
        cut = tmp_path / f"cut-{codec}.{container}"
        cut.write_bytes(clips[-1].read_bytes()[: clips[-1].stat().st_size // 3])
        clips.append(cut)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video", encoding="utf-8")
    (tmp_path / "torn.mjpeg").write_bytes(cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()[:-30] * 3)
    clips += [tmp_path / name for name in ("empty.mp4", "text.mp4", "torn.mjpeg")]
    program = [sys.executable, "-c", READS, *map(str, clips)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV_")}
    result = subprocess.run(program, env=environment, capture_output=True, text=True, check=True, timeout=60)
    # The project's own warnings are the only lines.
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines
    assert [line for line in lines if not line.endswith("Further damage of it is not logged.")] == []
