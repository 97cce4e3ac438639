"""What the header of a video states that OpenCV does not, or not in every version: codec, orientation, duration.

OpenCV 4.6 turns a video by its matrix in the wrong direction, and every version takes a mirrored one for a turned one.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

HEAD_BYTES = 1 << 16  # in which Matroska and AVI name their codec
TAIL_BYTES = 512
MAX_BOXES = 10_000
# Of an MP4's sample entry, a Matroska track and an AVI stream. Other codecs keep the name that is in the file.
CODECS = {
    "AV1": ("av01", "V_AV1"),
    "H.264": ("avc1", "avc3", "h264", "V_MPEG4/ISO/AVC"),
    "H.265 (HEVC)": ("hvc1", "hev1", "dvh1", "dvhe", "hevc", "V_MPEGH/ISO/HEVC"),
    "H.266 (VVC)": ("vvc1", "vvi1", "V_MPEGI/ISO/VVC"),
    "MPEG-4": ("mp4v", "fmp4", "xvid", "divx", "dx50", "V_MPEG4/ISO/ASP"),
    "Motion JPEG": ("jpeg", "mjpg", "mjpa", "mjpb", "V_MJPEG"),
    "ProRes": ("apch", "apcn", "apcs", "apco", "ap4h", "ap4x", "V_PRORES"),
    "VP8": ("vp08", "vp80", "V_VP8"),
    "VP9": ("vp09", "vp90", "V_VP9"),
    "encrypted": ("encv",),
}


@dataclass(frozen=True, slots=True)
class VideoHeader:
    """What a video's header states.

    `transpose` and the flips are how its pictures are made upright, in this order.
    """

    codec: str = ""  # by its usual name; "" if unknown
    has_matrix: bool = False  # of an MP4 or QuickTime file; the next three are then those that count
    transpose: bool = False
    flip_horizontal: bool = False
    flip_vertical: bool = False
    duration_s: float = 0.0  # 0 if unknown
    complete: bool = False  # of another container: it states its length in bytes, and they are there
    unfinished: bool = False  # an MP4 or QuickTime file whose index is missing or cut off


def codec_name(code: str) -> str:
    """A codec by its usual name, else as the file names it; "" if that is not printable."""
    code = code.strip("\0 ")
    known = (name for name, codes in CODECS.items() if code.casefold() in (other.casefold() for other in codes))
    return next(known, code if code.isprintable() else "")


def read_header(path: Path) -> VideoHeader:
    """What the file states; an empty VideoHeader for a container that is not known.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _mp4(file)
        complete = _is_complete(file, head)
    found = None
    if head.startswith(b"\x1aE\xdf\xa3"):
        found = re.search(rb"\x86[\x80-\xff](V_[\w/]+)", head)  # element CodecID of a video track
    elif head.startswith(b"RIFF"):
        found = re.search(rb"strh.{4}vids(.{4})", head, re.DOTALL)
    return VideoHeader(codec_name(found[1].decode("latin-1")) if found else "", complete=complete)


def _is_complete(file: BinaryIO, head: bytes) -> bool:
    """Whether all bytes of a Matroska or AVI file are there, and the last ones are not the zeros of a power cut.

    An MPEG-TS is complete too: it states no length, and FFmpeg takes its duration from its end.
    """
    if head[0:189:188] == b"GG":  # MPEG-TS: packets of 188 bytes
        return True
    stated = 0
    if head.startswith(b"RIFF") and len(head) >= 8:
        stated = 8 + int(struct.unpack_from("<I", head, 4)[0])
    elif head.startswith(b"\x1aE\xdf\xa3"):
        begin, length = _element(head, 4)
        if head[begin + length : begin + length + 4] == b"\x18S\x80g":  # Segment
            stated = sum(_element(head, begin + length + 4))
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - TAIL_BYTES))
    return 8 < stated <= end and any(file.read())


def _element(head: bytes, at: int) -> tuple[int, int]:
    """Where the content of a Matroska element begins, and its length, from the place of that length; 0, 0 if unknown.

    RFC 8794, 4: the zero bits in front are as many as the bytes that follow; all other bits are 1 if it is unknown.
    """
    size = 9 - head[at].bit_length() if at < len(head) else 9
    number = int.from_bytes(head[at : at + size], "big") & (1 << 7 * size) - 1
    return (0, 0) if size > 8 or number == (1 << 7 * size) - 1 else (at + size, number)


def _mp4(file: BinaryIO) -> VideoHeader:
    """ISO/IEC 14496-12: nested boxes of a size, a type and their content."""
    end = file.seek(0, os.SEEK_END)
    outer = list(_boxes(file, 0, end))
    moov = next((box for box in outer if box[0] == b"moov"), None)
    if moov is None or moov[2] > end:
        return VideoHeader(unfinished=all(box[0] != b"meta" for box in outer))  # HEIC and AVIF photos have that
    inside = list(_boxes(file, *moov[1:]))
    movie = next((_content(file, box) for box in inside if box[0] == b"mvhd"), b"")
    for trak in (box for box in inside if box[0] == b"trak"):
        try:
            if _inside(file, trak, b"mdia", b"hdlr")[8:12] == b"vide":
                return _video_track(
                    movie,
                    _inside(file, trak, b"tkhd"),
                    _inside(file, trak, b"mdia", b"mdhd"),
                    _inside(file, trak, b"mdia", b"minf", b"stbl", b"stsd"),
                )
        except struct.error:  # a box is shorter than its version asks
            break
    return VideoHeader()


def _video_track(movie: bytes, track: bytes, media: bytes, samples: bytes) -> VideoHeader:
    # Version 1 has times and durations of 64 bits.
    matrix_at = 52 if track[:1] == b"\1" else 40
    # The track's duration may begin with a pause, and the media's may be longer than what is shown of it.
    durations = _duration_s(movie, track, (20, 28)), _duration_s(media, media, (16, 24))
    # Columns of the picture go along (a, b), rows along (c, d): 1 or -1 where it is not scaled.
    a, b, _, c, d = struct.unpack_from(">5i", track, matrix_at)
    transpose = a == d == 0 and b != 0 != c
    upright = transpose or b == c == 0
    return VideoHeader(
        codec=codec_name(samples[12:16].decode("latin-1")),
        has_matrix=True,
        transpose=transpose,
        flip_horizontal=upright and (c if transpose else a) < 0,
        flip_vertical=upright and (b if transpose else d) < 0,
        duration_s=min(filter(None, durations), default=0.0),
    )


def _duration_s(timed: bytes, box: bytes, places: tuple[int, int]) -> float:
    """The duration in a box in versions 0 and 1, in the unit that `timed` (mvhd or mdhd) states; 0 if unknown."""
    duration, at = (">Q", places[1]) if box[:1] == b"\1" else (">I", places[0])
    (scale,) = struct.unpack_from(">I", timed, 20 if timed[:1] == b"\1" else 12)
    (length,) = struct.unpack_from(duration, box, at)
    unknown = length == 2 ** (8 * struct.calcsize(duration)) - 1
    return 0.0 if unknown or not scale else float(length / scale)


Box = tuple[bytes, int, int]  # its type, where its content begins, and where it ends


def _boxes(file: BinaryIO, begin: int, end: int) -> Iterator[Box]:
    for _ in range(MAX_BOXES):
        file.seek(begin)
        head = file.read(16)
        if begin + 8 > end or len(head) < 8:
            return
        size, kind = struct.unpack_from(">I4s", head)
        content = begin + 8
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack_from(">Q", head, 8)
            content += 8
        elif size == 0:
            size = end - begin
        if size < content - begin:
            return
        yield kind, content, begin + size
        begin += size


def _content(file: BinaryIO, box: Box) -> bytes:
    file.seek(box[1])
    return file.read(min(box[2] - box[1], 256))


def _inside(file: BinaryIO, box: Box, *path: bytes) -> bytes:
    """The first bytes of the box on a path inside another; b"" if there is none."""
    for kind in path:
        found = next((inner for inner in _boxes(file, *box[1:]) if inner[0] == kind), None)
        if found is None:
            return b""
        box = found
    return _content(file, box)
