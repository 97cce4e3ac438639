"""Tests that a folder is shown as it is when the turn of each photo comes, and that nothing in it blocks or ends it."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge.camera.capture import Capture
from edge.camera.file import FileSource
from edge.camera.geometry import FrameBuffers, Geometry
from edge.camera.source import UnreadablePictureError
from edge.errors import CameraError, PhotoError
from edge.photos.folders import photos_in
from edge.settings.schema import CameraSettings
from edge.status.snapshot import Status
from tests.photos.kinds import encoded, saved


def put(path: Path, level: int) -> Path:
    """A photo whose one grey tells which it is."""
    path.write_bytes(saved(Image.new("RGB", (32, 32), (level,) * 3), "PNG"))
    return path


def source_of(path: Path, *, loop: bool = True) -> FileSource:
    source = FileSource(str(path), Geometry(CameraSettings()), loop=loop)
    source.open()
    return source


def shown(source: FileSource, photos: int) -> list[int]:
    """The greys of the next photos; -1 for one that cannot be read."""
    found = []
    for _ in range(photos):
        assert source.grab()
        try:
            found.append(int(source.retrieve(FrameBuffers())[0, 0, 0]))
        except UnreadablePictureError:
            found.append(-1)
    return found


def test_a_folder_that_loops_shows_what_is_added_removed_renamed_and_replaced(tmp_path: Path) -> None:
    put(tmp_path / "b.png", 20)
    put(tmp_path / "d.png", 40)
    source = source_of(tmp_path)
    assert shown(source, 1) == [20]
    put(tmp_path / "c.png", 30)  # still in this round
    assert shown(source, 3) == [30, 40, 20]
    put(tmp_path / "a.png", 10)  # in the next one
    assert shown(source, 5) == [30, 40, 10, 20, 30]
    (tmp_path / "c.png").unlink()
    (tmp_path / "d.png").rename(tmp_path / "e.png")
    put(tmp_path / "a.png", 11)
    assert shown(source, 4) == [40, 11, 20, 40]


def test_a_photo_that_is_half_copied_is_shown_once_it_is_whole(tmp_path: Path) -> None:
    put(tmp_path / "a.png", 10)
    whole = put(tmp_path / "b.png", 20).read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    source = source_of(tmp_path)
    assert shown(source, 4) == [10, -1, 10, 10]  # reported once
    (tmp_path / "b.png").write_bytes(whole)
    assert shown(source, 2) == [20, 10]


def test_photos_added_at_the_end_are_shown_before_a_folder_without_loop_ends(tmp_path: Path) -> None:
    put(tmp_path / "a.png", 10)
    source = source_of(tmp_path, loop=False)
    assert shown(source, 1) == [10]
    put(tmp_path / "b.png", 20)
    assert shown(source, 1) == [20]
    assert not source.grab()


def test_a_folder_that_is_empty_or_gone_is_waited_for(
    tmp_path: Path, capture_of: Callable[..., Capture], eventually: Callable[..., None], status: Status
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    capture = capture_of(source=f"file:{folder}", loop=True)
    eventually(lambda: "holds no photos" in str(status.snapshot().gauges.get("camera_error")))
    put(folder / "a.png", 10)
    first = capture.take(15)
    assert first is not None
    shutil.rmtree(folder)  # as when a disk is unplugged
    eventually(lambda: "There is no file" in str(status.snapshot().gauges.get("camera_error")) or not capture.take(0.1))
    folder.mkdir()
    put(folder / "b.png", 20)
    eventually(lambda: (frame := capture.take(1)) is not None and frame.pixels[0, 0, 0] == 20)


def test_a_folder_whose_photos_are_all_removed_is_an_error_and_not_an_endless_loop(tmp_path: Path) -> None:
    put(tmp_path / "a.png", 10)
    source = source_of(tmp_path)
    assert shown(source, 2) == [10, 10]
    (tmp_path / "a.png").unlink()
    with pytest.raises(CameraError, match="holds no photos"):
        source.grab()


def test_broken_photos_are_not_reported_again_when_the_folder_is_opened_again(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xffbroken")
    source = source_of(tmp_path)
    assert shown(source, 1) == [-1]
    for _ in range(2):
        source.open()
        with pytest.raises(CameraError, match="None of the photos can be read"):
            source.grab()
    put(tmp_path / "a.jpg", 10)
    source.open()
    assert shown(source, 2) == [10, 10]


def test_a_single_photo_that_loops_shows_what_replaces_it(tmp_path: Path) -> None:
    photo = put(tmp_path / "latest.png", 10)
    source = source_of(photo)
    assert shown(source, 2) == [10, 10]
    put(tmp_path / "new.png", 20).replace(photo)
    assert shown(source, 1) == [20]
    photo.unlink()
    with pytest.raises(CameraError):
        source.grab()


def test_what_is_no_regular_file_neither_blocks_nor_counts(tmp_path: Path) -> None:
    put(tmp_path / "a.png", 10)
    os.mkfifo(tmp_path / "b.png")
    os.mkfifo(tmp_path / "nosuffix")
    (tmp_path / "c.png").symlink_to("/dev/zero")
    (tmp_path / "d.png").symlink_to("d.png")
    (tmp_path / "e.png").symlink_to("b.png")
    (tmp_path / "f.png").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "g.png"))
        assert [photo.name for photo in photos_in(tmp_path)] == ["a.png", "d.png"]  # `classify` reports the loop
        assert shown(source_of(tmp_path), 2) == [10, 10]
    (tmp_path / "a.png").unlink()
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "d.png").unlink()
    with pytest.raises(PhotoError, match="holds no photos"):
        photos_in(tmp_path)


def test_names_and_extensions_do_not_hide_a_photo(tmp_path: Path) -> None:
    """An upper-case, a wrong or no extension; blanks, line feeds and bytes that are not UTF-8."""
    names = ["A.JPG", "b.PNG", "c", "d e.jpeg", "f\ng.jfif", "h.tiff", os.fsdecode(b"i\xe9.jpg"), "j..webp"]
    for name in names:
        (tmp_path / name).write_bytes(encoded("JPEG"))
    (tmp_path / "README").write_text("no photo", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("no photo", encoding="utf-8")
    (tmp_path / ".hidden.jpg").write_bytes(encoded("JPEG"))
    (tmp_path / "._A.JPG").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert [photo.name for photo in photos_in(tmp_path)] == sorted(names)
    source = source_of(tmp_path, loop=False)
    assert -1 not in shown(source, len(names))
    assert not source.grab()


def test_a_refused_photo_is_named_in_one_line_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"a\n\xe9.jpg")).write_bytes(b"GIF")
    source = source_of(tmp_path)
    assert source.grab()
    with pytest.raises(UnreadablePictureError) as refused:
        source.retrieve(FrameBuffers())
    assert str(refused.value).startswith(f"{tmp_path}/a\\n\\udce9.jpg is not a photo")


def test_an_heic_in_a_folder_is_called_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    source = source_of(tmp_path)
    assert source.grab()
    with pytest.raises(UnreadablePictureError, match="is an HEIC photo"):
        source.retrieve(FrameBuffers())


@pytest.mark.parametrize("source", ["folder", "file"])
def test_a_torn_photo_is_not_the_one_before_it(source: str, tmp_path: Path) -> None:
    """OpenCV 4.10 fills what is missing with what was in the memory before."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    photo = saved(Image.fromarray(noise), "JPEG")
    (tmp_path / "a.jpg").write_bytes(photo)
    (tmp_path / "b.jpg").write_bytes(photo[: len(photo) * 15 // 100])
    path = tmp_path if source == "folder" else tmp_path / "b.jpg"
    opened = source_of(path, loop=False)
    if source == "folder":
        assert opened.grab()
        opened.retrieve(FrameBuffers())
    assert opened.grab()
    with pytest.raises(UnreadablePictureError, match="truncated"):
        opened.retrieve(FrameBuffers())
