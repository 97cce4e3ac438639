"""Tests that a video, a photo or a folder of photos is read to its end in the right colours, despite damaged files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.camera.capture import Capture
from edge.camera.file import FileSource
from edge.camera.geometry import FrameBuffers, Geometry
from edge.camera.source import UnreadablePictureError
from edge.errors import CameraError, PhotoError
from edge.frames import Frame, Pixels
from edge.photos.decode import MAX_PIXELS, quiet_opencv, read_photo
from edge.settings.schema import CameraSettings
from edge.status.snapshot import Status
from tests import samples
from tests.photos.kinds import KINDS, TURNS, UNUSUAL, encoded, turned

RED_BGR, BLUE_BGR = (0, 0, 255), (255, 0, 0)
VIDEO_FRAMES, VIDEO_FPS = 12, 10.0


def source_of(path: Path, **options: object) -> FileSource:
    loop = bool(options.pop("loop", False))
    source = FileSource(str(path), Geometry(CameraSettings(**options)), loop=loop)  # type: ignore[arg-type]
    source.open()
    return source


def all_of(source: FileSource) -> list[Pixels]:
    found = []
    while source.grab():
        found.append(source.retrieve(FrameBuffers()))
    source.close()
    return found


def take_all(capture: Capture) -> list[Frame]:
    frames = []
    while not capture.ended:
        if (frame := capture.take(5)) is not None:
            frames.append(frame)
    return frames


def picture(colour_bgr: tuple[int, int, int], width: int = 64, height: int = 48) -> Pixels:
    return np.full((height, width, 3), colour_bgr, np.uint8)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A short video: red, then each frame a little brighter in blue."""
    path = tmp_path / "short.avi"
    quiet_opencv()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), VIDEO_FPS, (64, 48))
    for number in range(VIDEO_FRAMES):
        writer.write(picture((number * 10, 0, 200)))
    writer.release()
    return path


def mean_rgb(pixels: Pixels) -> list[int]:
    return [round(float(v)) for v in pixels.reshape(-1, 3).mean(0)]


def test_a_video_is_shown_whole_and_in_its_own_colours(video: Path) -> None:
    frames = all_of(source_of(video))
    assert len(frames) == VIDEO_FRAMES
    red, green, blue = mean_rgb(frames[0])
    assert red > 180
    assert max(green, blue) < 20
    assert mean_rgb(frames[-1])[2] > mean_rgb(frames[0])[2] + 80


def test_a_video_is_pulled_to_its_end(photo_video: Path, capture_of: Callable[..., Capture], status: Status) -> None:
    capture = capture_of(source=f"file:{photo_video}", size=(160, 120))
    frames = 0
    previous = -1
    while not capture.ended:
        if (frame := capture.take(10)) is None:
            continue
        assert frame.sequence == previous + 1
        assert frame.pixels.shape == (120, 160, 3)
        frames, previous = frames + 1, frame.sequence
    assert frames == samples.VIDEO_FRAMES
    counters = status.snapshot().counters
    assert counters["frames_captured"] == samples.VIDEO_FRAMES
    assert counters.get("frames_dropped", 0) == counters.get("camera_errors", 0) == 0
    assert status.snapshot().gauges["camera"] == "ended"


def test_a_slow_consumer_still_gets_every_frame_of_a_file(
    video: Path, capture_of: Callable[..., Capture], eventually: Callable[..., None], status: Status
) -> None:
    capture = capture_of(source=f"file:{video}")
    sequences = []
    while (frame := capture.take(5)) is not None:
        # The next one is read ahead, and not one more.
        ahead = min(frame.sequence + 2, VIDEO_FRAMES)
        eventually(lambda ahead=ahead: status.snapshot().counters["frames_captured"] == ahead)
        sequences.append(frame.sequence)
    assert sequences == list(range(VIDEO_FRAMES))
    assert capture.ended


def test_frame_times_are_index_over_the_videos_own_rate(video: Path, capture_of: Callable[..., Capture]) -> None:
    frames = take_all(capture_of(source=f"file:{video}"))
    assert [round((f.captured_ns - frames[0].captured_ns) / 1e6) for f in frames] == [n * 100 for n in range(12)]


def test_looping_begins_again_and_time_goes_on(video: Path, capture_of: Callable[..., Capture]) -> None:
    capture = capture_of(source=f"file:{video}", loop=True)
    frames = [frame for _ in range(3 * VIDEO_FRAMES) if (frame := capture.take(5)) is not None]
    assert len(frames) == 3 * VIDEO_FRAMES
    assert not capture.ended
    assert [f.sequence for f in frames] == list(range(3 * VIDEO_FRAMES))
    times = [f.captured_ns - frames[0].captured_ns for f in frames]
    assert times == [pytest.approx(n * 1e8, abs=2) for n in range(len(frames))]


def test_real_photos_keep_their_colours(photos_dir: Path, capture_of: Callable[..., Capture]) -> None:
    """Strongly coloured photos through the whole camera stage; fails if red and blue are swapped."""
    for name, more_red_than_blue in (("coffee.png", 60), ("chelsea.png", 60), ("rocket.jpg", -40)):
        (frame,) = take_all(capture_of(source=f"file:{photos_dir / name}"))
        expected = cv2.imread(str(photos_dir / name)).reshape(-1, 3).mean(0)[::-1]
        assert frame.pixels.reshape(-1, 3).mean(0) == pytest.approx(expected, abs=1.0)
        red, _, blue = mean_rgb(frame.pixels)
        assert (red - blue) / more_red_than_blue > 0.5, name


def test_a_folder_is_shown_in_the_order_of_names(tmp_path: Path) -> None:
    for name, level in (("c.PNG", 30), ("a.bmp", 10), ("b.png", 20)):
        cv2.imwrite(str(tmp_path / name), picture((level, level, level)))
    (tmp_path / "notes.txt").write_text("not a photo", encoding="utf-8")
    source = source_of(tmp_path)
    assert [mean_rgb(p)[0] for p in all_of(source)] == [10, 20, 30]
    source.open()
    assert [source.moment_s for _ in range(3) if source.grab()] == [0.0, 1.0, 2.0]  # photos count as one a second


def test_photos_of_any_shape_follow_each_other(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), picture(RED_BGR, 100, 20))
    cv2.imwrite(str(tmp_path / "2.png"), np.full((30, 30), 99, np.uint8))
    cv2.imwrite(str(tmp_path / "3.png"), np.full((30, 30, 4), 50, np.uint8))
    cv2.imwrite(str(tmp_path / "4.png"), np.full((30, 31, 3), 65535, np.uint16))
    shapes = [(p.shape, mean_rgb(p)) for p in all_of(source_of(tmp_path))]
    assert shapes == [
        ((20, 100, 3), [255, 0, 0]),
        ((30, 30, 3), [99] * 3),
        ((30, 30, 3), [50] * 3),
        ((30, 31, 3), [255] * 3),
    ]


PHOTOS: dict[str, Callable[[], bytes]] = {
    **{kind: partial(encoded, kind) for kind in KINDS},
    **UNUSUAL,
    **{f"EXIF orientation {orientation}": partial(turned, orientation) for orientation in TURNS},
}


@pytest.mark.parametrize("kind", PHOTOS)
def test_a_photo_is_read_exactly_as_classify_reads_it(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "photo"  # recognised by its bytes, as for `classify`
    path.write_bytes(PHOTOS[kind]())
    (pixels,) = all_of(source_of(path))
    assert np.array_equal(pixels, read_photo(path))


def test_a_folder_shows_every_kind_of_photo(tmp_path: Path) -> None:
    for kind in KINDS:
        (tmp_path / f"photo.{kind.lower()}").write_bytes(encoded(kind))
    assert len(all_of(source_of(tmp_path))) == len(KINDS)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda: encoded("JPEG")[:-20], id="truncated JPEG"),
        pytest.param(lambda: encoded("WEBP")[:-20], id="truncated WebP"),
        pytest.param(lambda: bomb(1, MAX_PIXELS + 1), id="too many pixels"),
        pytest.param(lambda: b"BM" + bytes(100), id="damaged BMP"),
    ],
)
def test_a_photo_that_classify_refuses_is_refused_with_the_same_sentence(
    content: Callable[[], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "photo"
    path.write_bytes(content())
    with pytest.raises(PhotoError) as classified:
        read_photo(path)
    source = source_of(path)
    assert source.grab()
    with pytest.raises(UnreadablePictureError) as shown:
        source.retrieve(FrameBuffers())
    assert str(shown.value) == str(classified.value)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def test_unreadable_photos_are_skipped_reported_once_and_counted(
    tmp_path: Path, capture_of: Callable[..., Capture], status: Status, caplog: pytest.LogCaptureFixture
) -> None:
    cv2.imwrite(str(tmp_path / "good1.png"), picture((10, 10, 10)))
    cv2.imwrite(str(tmp_path / "good2.png"), picture((20, 20, 20)))
    (tmp_path / "bad-empty.jpg").touch()
    (tmp_path / "bad-text.jpg").write_text("I am a text", encoding="utf-8")
    (tmp_path / "bad-bomb.png").write_bytes(bomb(30_000, 30_000))
    (tmp_path / "bad-torn.png").write_bytes((tmp_path / "good1.png").read_bytes()[:40])
    (tmp_path / "bad-gone.png").symlink_to(tmp_path / "nowhere.png")
    capture = capture_of(source=f"file:{tmp_path}", loop=True)
    levels = [mean_rgb(frame.pixels)[0] for _ in range(6) if (frame := capture.take(5)) is not None]
    assert levels == [10, 20] * 3
    assert status.snapshot().counters["frames_unreadable"] == 4  # a dangling link is no file of the folder
    assert "camera_errors" not in status.snapshot().counters
    for bad in ("bad-empty.jpg", "bad-text.jpg", "bad-bomb.png", "bad-torn.png"):
        assert sum(bad in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "There is no file"),
        (lambda path: path.mkdir(), "holds no photos"),
        (lambda path: path.write_text("a text"), "neither a video nor a photo"),
        (lambda path: path.write_bytes(b""), "neither a video nor a photo"),
        (lambda path: path.write_bytes(b"RIFF\0\0\0\0AVI LIST"), "neither a video nor a photo"),
    ],
)
def test_a_path_that_is_nothing_is_a_sentence(tmp_path: Path, make: Callable[[Path], object], sentence: str) -> None:
    path = tmp_path / "thing"
    make(path)
    with pytest.raises(CameraError, match=sentence):
        source_of(path)


def test_a_folder_of_nothing_but_broken_photos_is_an_error_and_not_an_endless_loop(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xffbroken")
    source = source_of(tmp_path, loop=True)
    assert source.grab()
    with pytest.raises(UnreadablePictureError):
        source.retrieve(FrameBuffers())
    with pytest.raises(CameraError, match="None of the photos"):
        source.grab()


def test_a_file_url_and_a_home_directory_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture(RED_BGR))
    monkeypatch.setenv("HOME", str(tmp_path))
    for uri in (f"//{tmp_path}/a.png", "~/a.png"):
        source = FileSource(uri, Geometry(CameraSettings()))
        source.open()
        assert len(all_of(source)) == 1
