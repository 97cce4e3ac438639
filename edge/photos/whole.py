"""Whether a photo's file is complete.

Decoders fill what is missing with grey, and OpenCV 4.10 with pixels of the photo before it.
"""

from __future__ import annotations

import re
import struct

from edge.photos.header import JPEG_FRAMES, boxes, is_os2_bmp, jpeg_segment, riff_chunks
from edge.photos.tiff_tags import is_all_there

SECTOR_BYTES, PAGE_BYTES = 512, 4096

# A marker that ends compressed data; inside these are 0xFF 0, which stands for 0xFF, and restart markers (D0 to D7).
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_SOI, _EOI, _SOS, _DRI, _SEQUENTIAL = 0xD8, 0xD9, 0xDA, 0xDD, (0xC0, 0xC1)
_COEFFICIENTS = (1 << 64) - 1


def is_complete(content: bytes) -> bool:
    """Whether the photo, whose size its header states, has all its parts and its end."""
    if content.startswith(b"\xff\xd8"):
        return jpeg_end(content) is not None
    if content.startswith(b"\x89PNG"):
        return content.rfind(b"IEND\xaeB`\x82") >= 0  # with its checksum
    if content.startswith(b"RIFF"):
        end = 8 + int(struct.unpack_from("<I", content, 4)[0])
        return len(content) >= end and not _ends_blank(content[:end]) and not _webp_ends_blank(content[:end])
    if content.startswith(b"GIF"):
        return _gif_ends(content)
    if content[4:8] == b"ftyp":
        return not _ends_blank(content) and all(end <= len(content) for _, _, end in boxes(content, 0, len(content)))
    there = _bmp_ends(content) if content.startswith(b"BM") else is_all_there(content)
    return there and not _ends_blank(content)


def jpeg_end(content: bytes) -> int | None:
    """The offset of the marker that ends the JPEG; None if it is torn.

    The EXIF data in front may hold a whole JPEG, and another picture may follow. A JPEG is torn as well if some of its
    restart markers or its scans are missing.
    """
    frame = jpeg_segment(content, JPEG_FRAMES)
    # For each component, which of the 64 coefficients are still incomplete, as bits; the scans complete them.
    missing = dict.fromkeys(content[frame + 10 : frame + 10 + 3 * content[frame + 9] : 3], _COEFFICIENTS)
    begun: set[int] = set()  # components that have a scan for their mean, which has to be the first
    every = 0  # units of a scan from one restart marker to the next; 0 without them
    at = jpeg_segment(content, {_DRI})
    while at + 4 <= len(content) and content[at + 1] not in (_SOI, _EOI):  # SOI: the next picture
        marker, length = content[at + 1], int(struct.unpack_from(">H", content, at + 2)[0])
        if marker == _DRI:
            every = int(struct.unpack_from(">H", content, at + 4)[0])
        found = _MARKER.search(content, at + 2 + length)
        after = found.start() if found is not None else len(content)
        if marker == _SOS:
            header = content[at + 4 : at + 2 + length]
            _scanned(header, missing, begun)
            if every and header[0] == len(missing) > 1:  # of all components; with one they have other units
                restarts = len(_RESTART.findall(content, at + 2 + length, after))
                if restarts < (_units(content, frame) - 1) // every:
                    return None
        at = after
    return at if content[at : at + 2] == b"\xff\xd9" and not any(missing.get(one) for one in begun) else None


def has_one_scan(content: bytes) -> bool:
    """Whether a JPEG has Huffman code and one scan from top to bottom, not several that each add to all of it."""
    frame, scan = jpeg_segment(content, JPEG_FRAMES), jpeg_segment(content, ())
    return content[frame + 1] in _SEQUENTIAL and content[scan + 4] == content[frame + 9]


def _scanned(header: bytes, missing: dict[int, int], begun: set[int]) -> None:
    """Clear what a scan completes."""
    if len(header) < 4:
        return
    first, last = header[-3], header[-2]
    if first == 0:
        begun.update(header[1:-3:2])
    if header[-1] & 15:  # the lowest bits come in a later scan
        return
    coefficients = (1 << last + 1) - (1 << first) if first <= last < 64 else 0
    for component in header[1:-3:2]:
        missing[component] = missing.get(component, 0) & ~coefficients


def _units(content: bytes, frame: int) -> int:
    """The units of a scan of all components, each of 8 to 32 pixels in width and height."""
    height, width = struct.unpack_from(">HH", content, frame + 5)
    sampling = content[frame + 11 : frame + 10 + 3 * content[frame + 9] : 3]
    across, down = (8 * max(1, *sides) for sides in zip(*((s >> 4, s & 15) for s in sampling), strict=True))
    return int(-(-width // across) * -(-height // down))


def _gif_ends(content: bytes) -> bool:
    """Whether each block is there, and then the trailer."""
    at = 13 + _colours(content[10])
    while at < len(content):
        block = content[at]
        if block == 0x3B:
            return True
        if block == 0x2C and at + 9 < len(content):  # a picture
            at += 11 + _colours(content[at + 9])
        elif block == 0x21:  # an extension
            at += 2
        else:
            return False
        while at < len(content) and content[at]:
            at += 1 + content[at]
        at += 1
    return False


def _colours(flags: int) -> int:
    """The bytes of a colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _bmp_ends(content: bytes) -> bool:
    """Whether all rows are there; of compressed ones the header states the length."""
    begin = int(struct.unpack_from("<i", content, 10)[0])
    if is_os2_bmp(content):
        (width, height, bits), compression, length = struct.unpack_from("<HH2xH", content, 18), 0, 0
    else:
        width, height, bits, compression, length = struct.unpack_from("<ii2xHII", content, 18)
    if compression in (0, 3):  # not compressed; some programs state no length, or a wrong one
        length = (width * bits + 31) // 32 * 4 * abs(height)
    return bool(begin + length <= len(content))


def _ends_blank(content: bytes) -> bool:
    """Whether the file ends in zeros from a page on, as after a power cut or while it is copied.

    A picture whose last rows are black ends in zeros too, but begins them at any offset.
    """
    begin = len(content.rstrip(b"\0"))
    return -begin % PAGE_BYTES < 4 and len(content) - begin >= SECTOR_BYTES


def _webp_ends_blank(content: bytes) -> bool:
    """Whether the compressed data end in more zeros than black rows at the bottom would make."""
    for kind, data in riff_chunks(content):
        zeros = len(data) - len(data.rstrip(b"\0"))
        if (kind == b"VP8 " and zeros > max(SECTOR_BYTES, len(data) // 2)) or (kind == b"VP8L" and zeros >= 64):
            return True
    return False
