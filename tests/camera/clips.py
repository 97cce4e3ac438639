"""Videos that tests make with OpenCV, and damage or change byte by byte."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

from edge.frames import Pixels
from edge.photos.decode import quiet_opencv

SIZE = (64, 48)
FPS = 10.0
PATH_TO_TIMES = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"]


def numbered(number: int) -> Pixels:
    """A picture of noise, whose left half is as bright as its number asks."""
    noise = np.random.default_rng(number).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
    noise[:, : SIZE[0] // 2] = number * 2 % 250
    return noise


def write_clip(path: Path, frames: int, codec: str = "mp4v", fps: float = FPS) -> Path:
    """Write a video of `frames` numbered pictures; the container follows from the name."""
    quiet_opencv()  # FFmpeg reads its log level at its first use in a process
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, SIZE)
    assert writer.isOpened()
    for number in range(frames):
        writer.write(numbered(number))
    writer.release()
    return path


def zero(path: Path, *parts: tuple[float, float]) -> Path:
    """Overwrite parts of a file, given as fractions, with zeros."""
    content = bytearray(path.read_bytes())
    for begin, end in parts:
        first, last = int(begin * len(content)), int(end * len(content))
        content[first:last] = bytes(last - first)
    path.write_bytes(content)
    return path


def boxes(content: bytes | bytearray, path: list[bytes]) -> list[int]:
    """The offsets of the MP4 boxes on a path such as moov, trak."""
    offsets, at, end = [], 0, len(content)
    for wanted in path:
        while content[at + 4 : at + 8] != wanted:
            assert at < end, f"no {wanted!r}"
            at += int(struct.unpack_from(">I", content, at)[0])
        offsets.append(at)
        end = at + int(struct.unpack_from(">I", content, at)[0])
        at += 8
    return offsets


def set_durations(path: Path, durations: list[tuple[int, float]], *, edit_s: float = 0.0) -> Path:
    """Give an MP4's pictures other durations: (how many pictures, of how many seconds each), …

    Its edit list then shows the first `edit_s` seconds, or all if that is 0.
    """
    content = path.read_bytes()
    at = boxes(content, PATH_TO_TIMES)
    (scale,) = struct.unpack_from(">I", content, boxes(content, [*PATH_TO_TIMES[:3], b"mdhd"])[-1] + 20)
    entries = b"".join(struct.pack(">II", count, round(seconds * scale)) for count, seconds in durations)
    box = struct.pack(">I4sII", 16 + len(entries), b"stts", 0, len(durations)) + entries
    (old,) = struct.unpack_from(">I", content, at[-1])
    changed = bytearray(content[: at[-1]] + box + content[at[-1] + old :])
    if edit_s:
        (movie_scale,) = struct.unpack_from(">I", changed, boxes(changed, [b"moov", b"mvhd"])[-1] + 20)
        shown_for = struct.pack(">I", round(edit_s * movie_scale))
        edit = boxes(changed, [b"moov", b"trak", b"edts", b"elst"])[-1]
        track = boxes(changed, [b"moov", b"trak", b"tkhd"])[-1]
        changed[edit + 16 : edit + 20] = changed[track + 28 : track + 32] = shown_for
    else:
        changed = changed.replace(b"edts", b"free")  # would cut the video at its first duration
    assert content.index(b"mdat") < at[0], "what the boxes grow by must not move the pictures"
    for outer in at[:-1]:
        struct.pack_into(">I", changed, outer, struct.unpack_from(">I", changed, outer)[0] + len(box) - old)
    path.write_bytes(changed)
    return path


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Give an MP4's pictures a matrix, by which (x, y) is shown at (a·x + c·y, b·x + d·y)."""
    content = bytearray(path.read_bytes())
    at = boxes(content, [b"moov", b"trak", b"tkhd"])[-1]
    version_1 = content[at + 8]
    one = 1 << 16
    struct.pack_into(
        ">9i", content, at + (60 if version_1 else 48), a * one, b * one, 0, c * one, d * one, 0, 0, 0, one << 14
    )
    path.write_bytes(content)
    return path
