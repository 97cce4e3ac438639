"""Tests that videos are read whole and in their own time: holes, odd rates and names, whatever the container."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge.camera import video
from edge.camera.capture import Capture
from edge.camera.file import FileSource
from edge.camera.geometry import FrameBuffers, Geometry
from edge.decision.decider import Decider
from edge.errors import CameraError
from edge.frames import Frame, Pixels
from edge.settings.schema import CameraSettings, DecisionSettings
from edge.status.snapshot import Status
from tests.camera.clips import numbered, set_durations, write_clip, zero

Start = Callable[..., Capture]


def shown(path: Path | str) -> list[tuple[float, Pixels]]:
    """Every picture that a source shows, with its moment."""
    source = FileSource(str(path), Geometry(CameraSettings()))
    source.open()
    found = []
    while source.grab():
        pixels = source.retrieve(FrameBuffers())
        found.append((source.moment_s, pixels))
    source.close()
    return found


def moments(path: Path) -> list[float]:
    return [moment for moment, _ in shown(path)]


def frames_of(capture: Capture) -> list[Frame]:
    frames = []
    while not capture.ended:
        if (frame := capture.take(5)) is not None:
            frames.append(frame)
    return frames


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.fixture(scope="session")
def cases(testdata: Path) -> Path:
    """Small files of the test data on which other programs, and this one before, were wrong."""
    if not (testdata / "cases").is_dir():
        pytest.skip("the test data have no folder cases")
    return testdata / "cases"


def test_a_video_without_a_frame_rate_takes_the_same_time_as_with_one(cases: Path) -> None:
    mp4, webm = moments(cases / "scenes.mp4"), moments(cases / "scenes.webm")  # OpenCV: 10 fps, and 1000 fps
    assert len(mp4) == len(webm) == 200
    assert webm == pytest.approx(mp4, abs=0.2)


def scene_changes(path: Path) -> list[tuple[float, str, str]]:
    """The decider's events for a video, by a classifier that knows scenes by their mean colour."""
    scenes: list[Pixels] = []
    decider = Decider(DecisionSettings(), [f"scene {number}" for number in range(8)])
    events = []
    for moment, pixels in shown(path):
        colour = pixels.reshape(-1, 3).mean(0)
        near = [number for number, known in enumerate(scenes) if np.abs(known - colour).max() < 12]
        if not near:
            near = [len(scenes)]
            scenes.append(colour)
        decision = decider.decide(np.eye(8, dtype=np.float32)[near[0]] * 0.9 + np.float32(0.01), moment)
        if decision is not None:
            events.append((moment, decision.reason, decision.label))
    return events


def test_a_video_without_a_frame_rate_makes_the_same_events(cases: Path) -> None:
    of_mp4, of_webm = scene_changes(cases / "scenes.mp4"), scene_changes(cases / "scenes.webm")
    assert [event[1:] for event in of_mp4] == [("change", f"scene {number}") for number in range(4)]
    assert [event[1:] for event in of_webm] == [event[1:] for event in of_mp4]
    assert [event[0] for event in of_webm] == pytest.approx([event[0] for event in of_mp4], abs=0.3)


def test_a_hole_is_not_the_end(
    cases: Path, capture_of: Start, status: Status, caplog: pytest.LogCaptureFixture
) -> None:
    frames = frames_of(capture_of(source=f"file:{cases / 'hole.mp4'}"))
    assert len(frames) == 800
    assert (frames[-1].captured_ns - frames[0].captured_ns) / 1e9 == pytest.approx(99.9)
    assert status.snapshot().counters["frames_captured"] == 800
    (warning,) = warnings(caplog)
    assert "is damaged after 0:00:28." in warning


CONTAINERS = [("mp4", "mp4v"), ("avi", "XVID"), ("avi", "MJPG"), ("mkv", "mp4v"), ("ts", "mp4v"), ("mov", "mp4v")]


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
@pytest.mark.parametrize(
    "holes", [((0.4, 0.6),), ((0.2, 0.3), (0.5, 0.55), (0.7, 0.75))], ids=["one hole", "three holes"]
)
def test_pictures_behind_holes_are_shown_in_every_container(
    container: str, codec: str, holes: tuple[tuple[float, float], ...], tmp_path: Path
) -> None:
    path = zero(write_clip(tmp_path / f"clip.{container}", 200, codec), *holes)
    found = shown(path)
    assert 120 < len(found) < 185
    last = numbered(199)[:, :32].mean()
    assert found[-1][1][:, :28].mean() == pytest.approx(last, abs=12), "the last picture is not the video's last"


@pytest.mark.parametrize("rounds", [1, 3])
def test_holes_are_reported_once(
    rounds: int, tmp_path: Path, capture_of: Start, caplog: pytest.LogCaptureFixture
) -> None:
    path = zero(write_clip(tmp_path / "clip.mp4", 200), (0.2, 0.3), (0.5, 0.55), (0.7, 0.75))
    capture = capture_of(source=f"file:{path}", loop=True)
    for _ in range(rounds * 160):
        assert capture.take(5)
    assert len(warnings(caplog)) == 1


def test_reading_over_a_very_long_hole_shows_that_it_is_alive(
    tmp_path: Path, capture_of: Start, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failing grabs are interrupted, each time as a picture that cannot be read, so that the thread's beats go on."""
    path = zero(write_clip(tmp_path / "clip.mp4", 200), (0.4, 0.6))
    whole = len(shown(path))
    monkeypatch.setattr(video, "PATIENCE_S", 0.0)
    assert len(frames_of(capture_of(source=f"file:{path}"))) == whole
    assert status.snapshot().counters["frames_unreadable"] >= 200 - whole


def test_an_mp4_that_was_trimmed_by_its_edit_list_is_not_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = set_durations(write_clip(tmp_path / "clip.mp4", 100), [(100, 0.1)], edit_s=3.0)
    assert moments(path) == pytest.approx([n * 0.1 for n in range(30)], abs=0.001)
    assert warnings(caplog) == []


def test_a_whole_video_is_not_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for container, codec in CONTAINERS:
        assert len(shown(write_clip(tmp_path / f"clip.{container}", 30, codec))) == 30
    assert warnings(caplog) == []


def test_each_picture_has_its_own_time_at_a_variable_rate(tmp_path: Path) -> None:
    path = set_durations(write_clip(tmp_path / "clip.mp4", 40), [(10, 0.1), (10, 0.02), (5, 0.5), (15, 0.1)])
    steps = [0.1] * 10 + [0.02] * 10 + [0.5] * 5 + [0.1] * 15
    assert moments(path) == pytest.approx([sum(steps[:n]) for n in range(40)], abs=0.001)


@pytest.mark.parametrize("step_s", [0.001, 1 / 15, 2.0, 600.0])
def test_any_steady_rate_is_kept(step_s: float, tmp_path: Path) -> None:
    path = set_durations(write_clip(tmp_path / "clip.mp4", 20), [(20, step_s)])
    assert moments(path) == pytest.approx([n * step_s for n in range(20)], rel=0.001, abs=0.002)


def test_a_video_that_loops_goes_on_in_its_own_time(tmp_path: Path, capture_of: Start) -> None:
    path = set_durations(write_clip(tmp_path / "clip.mp4", 10), [(10, 0.25)])
    capture = capture_of(source=f"file:{path}", loop=True)
    frames = [frame for _ in range(35) if (frame := capture.take(5)) is not None]
    times = [(frame.captured_ns - frames[0].captured_ns) / 1e9 for frame in frames]
    assert times == pytest.approx([n * 0.25 for n in range(35)], abs=0.01)


NAMES = [
    "a:b.mp4", "12:30.mp4", "http:x.mp4", "concat:a|b.mp4", "with space.mp4", "50%.mp4", "clip%03d.mp4", "what?.mp4",
    "-dash.mp4", "#1.mp4", "ümläut 视频.mp4", "clip", "a&b=c.mp4", "new\nline.mp4", "pipe:0", "clip001.jpg",
    "clip%03d.jpg",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["{}", "{folder}/{}", "//{folder}/{}"])
def test_any_name_can_be_read(name: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "plain.mp4", 3).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(shown(form.format(name, folder=tmp_path))) == 3


def test_a_name_that_is_not_utf8_can_be_read(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    write_clip(tmp_path / "plain.mp4", 3).rename(tmp_path / name)
    assert len(shown(tmp_path / name)) == 3


def test_a_url_may_be_percent_encoded_and_name_this_host(tmp_path: Path) -> None:
    write_clip(tmp_path / "my clip.mp4", 3)
    for host in ("", "localhost"):
        for name in ("my%20clip.mp4", "my clip.mp4"):
            assert len(shown(f"//{host}{tmp_path}/{name}")) == 3
    write_clip(tmp_path / "my%20clip.mp4", 4)
    assert len(shown(f"//{tmp_path}/my%20clip.mp4")) == 4  # a name that is there as it is written


def test_an_unknown_home_directory_is_a_sentence() -> None:
    with pytest.raises(CameraError, match="There is no file"):
        shown("~nobody-of-this-name/clip.mp4")
