"""The tags of a TIFF's first directory; the EXIF data of every other format is such a TIFF."""

from __future__ import annotations

import struct
from collections.abc import Iterator

ORIENTATION = 0x0112
UPRIGHT = 1  # its value for a picture that is stored as it is to be seen
_LONG, _SHORT = 4, 3
# BYTE, SHORT, LONG and the signed ones, which some cameras write. libtiff takes any of them for a width, too.
INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}


def first_directory(tiff: bytes) -> list[tuple[int, int | None]]:
    """The tags in their order, each with its value; None where that is not one integer of 8 to 32 bits.

    Raises:
        struct.error: it ends within the directory.
    """
    tags: list[tuple[int, int | None]] = []
    for tag, kind, count, at in _entries(tiff):
        value = _integer(tiff, INTEGERS.get(kind, "I"), at)
        tags.append((tag, value if count == 1 and kind in INTEGERS else None))
    return tags


def _entries(tiff: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Each entry of the first directory: tag, type, count, and the place of its value or of the value's offset."""
    directory = _integer(tiff, "I", 4)
    for i in range(_integer(tiff, "H", directory)):
        entry = directory + 2 + 12 * i
        yield *struct.unpack_from(_order(tiff) + "HHI", tiff, entry), entry + 8


def _integer(tiff: bytes, letter: str, at: int) -> int:
    return int(struct.unpack_from(_order(tiff) + letter, tiff, at)[0])


def _order(tiff: bytes) -> str:
    return "<" if tiff[:2] == b"II" else ">"


def orientation_of(tiff: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, if there is none that is valid."""
    if tiff[:4] not in (b"II*\0", b"MM\0*"):
        return UPRIGHT
    try:
        value = dict(first_directory(tiff)).get(ORIENTATION)
    except struct.error:
        return UPRIGHT
    return value if value is not None and 1 <= value <= 8 else UPRIGHT


def tiff_tags(tiff: bytes) -> dict[int, int | None]:
    """The tags of the first directory with their values as in `first_directory`; none if the file ends within it."""
    try:
        return dict(first_directory(tiff))
    except struct.error:
        return {}


_PARTS = ((273, 279), (324, 325))  # the offsets and the bytes of strips, and of tiles
_LISTS = {*_PARTS[0], *_PARTS[1], 320}  # 320: the palette


def is_all_there(tiff: bytes) -> bool:
    """Whether no part of the first picture lies beyond the end of the file.

    Raises:
        struct.error: it ends within the directory, the list of its parts, or its palette.
    """
    numbers = dict(_numbers(tiff))
    for offsets, lengths in _PARTS:
        ends = map(sum, zip(numbers.get(offsets, ()), numbers.get(lengths, ()), strict=False))
        if max(ends, default=0) > len(tiff):
            return False
    return True


def _numbers(tiff: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The tags that are in _LISTS, each with all its values."""
    for tag, kind, count, at in _entries(tiff):
        if kind not in (_SHORT, _LONG) or tag not in _LISTS:
            continue
        letter, size = ("H", 2) if kind == _SHORT else ("I", 4)
        begin = at if count * size <= 4 else _integer(tiff, "I", at)
        if begin + count * size > len(tiff):
            raise struct.error("the list ends early")
        yield tag, struct.unpack_from(f"{_order(tiff)}{count}{letter}", tiff, begin)
