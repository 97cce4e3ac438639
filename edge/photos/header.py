"""What a photo's header states: its format, its width and height.

It is read before a photo is decoded, because a few kilobytes can unpack to gigabytes of pixels. A file
counts as a photo only if the decoder cannot read another size from its header than this module does.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Container, Iterator

from edge.photos.kinds import AVIF, GIF, kind_of
from edge.photos.tiff_tags import first_directory

MAX_META_BYTES = 1 << 20  # of the front of an AVIF, where its properties are


def is_photo(head: bytes) -> bool:
    """Whether a file that begins with `head`, HEAD_BYTES of it, is a still picture, even of a kind that is not read."""
    kind = kind_of(head)
    return _reader(head) is not None or (kind is not None and kind.still)


def photo_size(content: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels as the header states them; None if this is no photo or its header is incomplete."""
    reader = _reader(content)
    try:
        return None if reader is None else reader(content)
    except (struct.error, IndexError):  # the file ends within the header
        return None


JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# Other bytes between two segments, which some programs leave there, are skipped as libjpeg does.
_MARKER = re.compile(rb"\xff[^\x00\xff]")


def _jpeg(content: bytes) -> tuple[int, int] | None:
    frame = jpeg_segment(content, JPEG_FRAMES)
    if content[frame + 1] in (0xD9, 0xDA):  # end, or data before any frame
        return None
    height, width = struct.unpack_from(">HH", content, frame + 5)
    return width, height


def jpeg_segment(content: bytes, wanted: Container[int], at: int = 2) -> int:
    """The offset of the next segment with a wanted marker, or of the scan or the end; len(content) if none."""
    while (found := _MARKER.search(content, at)) and found.end() + 2 <= len(content):
        at, marker = found.start(), content[found.start() + 1]
        if marker in wanted or marker in (0xD9, 0xDA):
            return at
        without_length = marker == 0x01 or 0xD0 <= marker <= 0xD8
        at += 2 if without_length else 2 + int(struct.unpack_from(">H", content, at + 2)[0])
    return len(content)


def _png(content: bytes) -> tuple[int, int] | None:
    if content[12:16] != b"IHDR":  # another chunk in front would hide the true size
        return None
    width, height = struct.unpack_from(">II", content, 16)
    return width, height


def _bmp(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH" if is_os2_bmp(content) else "<ii", content, 18)
    return abs(width), abs(height)  # a negative height: stored from the top


def is_os2_bmp(content: bytes) -> bool:
    """Whether a BMP has the header of OS/2 1.x and Windows 2 with 12 bytes, in which sizes have 16 bits."""
    return bool(struct.unpack_from("<I", content, 14)[0] == 12)


def _webp(content: bytes) -> tuple[int, int] | None:
    kind = content[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(content[i : i + 3], "little") + 1 for i in (24, 27))
        return width, height
    if kind == b"VP8L":
        bits = int(struct.unpack_from("<I", content, 21)[0])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _tiff(content: bytes) -> tuple[int, int] | None:
    directory = first_directory(content)
    # A second value, or one that is no single integer, would let the decoder see another size than this.
    widths, heights = ([value for tag, value in directory if tag == wanted] for wanted in (256, 257))
    if len(widths) != 1 or len(heights) != 1 or widths[0] is None or heights[0] is None:
        return None
    return widths[0], heights[0]


def _gif(content: bytes) -> tuple[int, int] | None:
    width, height = struct.unpack_from("<HH", content, 6)
    return (width, height) if width and height else None


def _avif(content: bytes) -> tuple[int, int] | None:
    # The largest picture in it; others are transparency and a preview.
    sizes = [struct.unpack_from(">II", body, 4) for kind, body in properties(content) if kind == b"ispe"]
    return max(((int(width), int(height)) for width, height in sizes), key=lambda size: size[0] * size[1], default=None)


def riff_chunks(content: bytes, at: int = 12) -> Iterator[tuple[bytes, bytes]]:
    """The name and the data of each chunk of a WebP, or of what begins at `at` in it."""
    while at + 8 <= len(content):
        length = int(struct.unpack_from("<I", content, at + 4)[0])
        yield content[at : at + 4], content[at + 8 : at + 8 + length]
        at += 8 + length + (length & 1)


def boxes(content: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The name, start and end of the contents of each box of an AVIF in a range; an end may lie beyond it."""
    while at + 8 <= end:
        length, start = int(struct.unpack_from(">I", content, at)[0]), at + 8
        if length == 1 and at + 16 <= end:
            length, start = int(struct.unpack_from(">Q", content, at + 8)[0]), at + 16
        after = at + length if length else end  # 0: to the end
        yield content[at + 4 : at + 8], start, after
        at = max(after, start)


def properties(content: bytes) -> list[tuple[bytes, bytes]]:
    """The name and the contents of each property of the pictures in an AVIF: meta, iprp, ipco."""
    at, end = 0, min(len(content), MAX_META_BYTES)
    for name, skipped in ((b"meta", 4), (b"iprp", 0), (b"ipco", 0)):
        found = next(((start, after) for kind, start, after in boxes(content, at, end) if kind == name), None)
        if found is None:
            return []
        at, end = found[0] + skipped, min(found[1], end)
    return [(kind, content[start:after]) for kind, start, after in boxes(content, at, end)]


_Reader = Callable[[bytes], tuple[int, int] | None]
_READERS: dict[bytes, _Reader] = {
    b"\xff\xd8": _jpeg,
    b"\x89PNG\r\n\x1a\n": _png,
    b"BM": _bmp,
    b"RIFF": _webp,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
}


def _reader(content: bytes) -> _Reader | None:
    if content.startswith(b"RIFF") and content[8:12] != b"WEBP":  # such as an AVI video
        return None
    if (kind := kind_of(content)) is not None:
        return {GIF: _gif, AVIF: _avif}.get(kind)
    return next((reader for magic, reader in _READERS.items() if content.startswith(magic)), None)
