"""What a photo's header states: its format, its width and height, and whether the file is complete.

It is read before a photo is decoded, because a few kilobytes can unpack to gigabytes of pixels. A file
counts as a photo only if the decoder cannot read another size from its header than this module does.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container


def is_photo(head: bytes) -> bool:
    """Whether a file that begins with `head`, 12 bytes or more, is a JPEG, PNG, WebP, BMP or TIFF."""
    return _reader(head) is not None


def photo_size(content: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels as the header states them; None if this is no photo or its header is incomplete."""
    reader = _reader(content)
    try:
        return None if reader is None else reader(content)
    except (struct.error, IndexError):  # the file ends within the header
        return None


def is_complete(content: bytes) -> bool:
    """Whether the photo has the end that its format requires. Decoders fill missing parts with grey."""
    if content.startswith(b"\xff\xd8"):
        # The end marker cannot occur within the scan, but EXIF, which comes before, may contain a whole thumbnail.
        return content.find(b"\xff\xd9", _jpeg_segment(content, ())) >= 0
    if content.startswith(b"\x89PNG"):
        return content.rfind(b"IEND\xaeB`\x82") >= 0  # with its checksum
    if content.startswith(b"RIFF"):
        return len(content) >= 8 + int(struct.unpack_from("<I", content, 4)[0])
    return True


_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def _jpeg(content: bytes) -> tuple[int, int] | None:
    frame = _jpeg_segment(content, _JPEG_FRAMES)
    if content[frame + 1] in (0xD9, 0xDA):  # end, or data before any frame
        return None
    height, width = struct.unpack_from(">HH", content, frame + 5)
    return width, height


def _jpeg_segment(content: bytes, wanted: Container[int]) -> int:
    """The offset of the first segment with a wanted marker, or of the scan or the end; len(content) if none."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker in wanted or marker in (0xD9, 0xDA):
            return at
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # without a length
            at += 2
        else:
            at += 2 + int(struct.unpack_from(">H", content, at + 2)[0])
    return len(content)


def _png(content: bytes) -> tuple[int, int] | None:
    if content[12:16] != b"IHDR":  # another chunk in front would hide the true size
        return None
    width, height = struct.unpack_from(">II", content, 16)
    return width, height


def _bmp(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<ii", content, 18)
    return abs(width), abs(height)  # a negative height: stored from the top


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
    order = "<" if content[:2] == b"II" else ">"
    directory = int(struct.unpack_from(order + "I", content, 4)[0])
    found: dict[int, int] = {}
    for i in range(int(struct.unpack_from(order + "H", content, directory)[0])):
        entry = directory + 2 + 12 * i
        tag, kind = struct.unpack_from(order + "HH", content, entry)
        if tag in (256, 257):
            # Any other kind, or a second value, would let the decoder see another size than this.
            if kind not in (3, 4) or tag in found:
                return None
            found[tag] = int(struct.unpack_from(order + ("H" if kind == 3 else "I"), content, entry + 8)[0])
    return (found[256], found[257]) if len(found) == 2 else None


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
    return next((reader for magic, reader in _READERS.items() if content.startswith(magic)), None)
