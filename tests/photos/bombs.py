"""Photos of about 1 MB that keep a decoder busy for a minute, or make it allocate a gigabyte; no header shows it."""

import struct
import zlib


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def many_scans(side: int = 6 * 1024, scans: int = 12_000) -> bytes:
    """A progressive JPEG, grey, whose every scan passes all blocks and changes none; `side` is a multiple of 1024."""
    frame = struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0"
    one_code = b"\x10" + bytes([1]) + bytes(15) + b"\xe0"  # the bit 0, and 14 bits: 2^14 empty blocks and as many more
    empty = bytes((side // 1024) ** 2 * 15 // 8 + 1)  # 2^14 blocks are 1024 × 1024 pixels
    scan = _segment(0xDA, b"\1\1\0\1\x3f\0") + empty
    tables = _segment(0xDB, b"\0" + b"\1" * 64) + _segment(0xC2, frame) + _segment(0xC4, one_code)
    return b"\xff\xd8" + tables + scan * scans + b"\xff\xd9"


def huge_tile() -> bytes:
    """A TIFF of 1000 × 1000 pixels in one tile of 16384 × 16000."""
    width, height = 16384, 16000  # 786 MB of pixels
    size = width * height * 3
    # zlib's stream for `size` zero bytes, from a piece that is repeated.
    piece = zlib.compressobj(9, wbits=-15)
    zeros = 1 << 24
    packed = piece.compress(bytes(zeros)) + piece.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, wbits=-15)
    end = last.compress(bytes(size % zeros)) + last.flush()
    data = b"\x78\xda" + packed * (size // zeros) + end + struct.pack(">I", (size % 65521) << 16 | 1)
    entries = [
        (256, 4, 1, 1000), (257, 4, 1, 1000), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 3),
        (322, 4, 1, width), (323, 4, 1, height), (324, 4, 1, 8), (325, 4, 1, len(data)),
    ]  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    padding = bytes(len(data) % 2)
    return b"II*\0" + struct.pack("<I", 8 + len(data) + len(padding)) + data + padding + directory
