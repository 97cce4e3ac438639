"""The tags of a TIFF's first directory; the EXIF data of every other format is such a TIFF."""

from __future__ import annotations

import struct

ORIENTATION = 0x0112
_LONG, _SHORT = 4, 3


def first_directory(tiff: bytes) -> list[tuple[int, int | None]]:
    """The tags in their order, each with its value; None where that is not one integer of 16 or 32 bits.

    Raises:
        struct.error: it ends within the directory.
    """
    order = "<" if tiff[:2] == b"II" else ">"
    directory = int(struct.unpack_from(order + "I", tiff, 4)[0])
    tags: list[tuple[int, int | None]] = []
    for i in range(int(struct.unpack_from(order + "H", tiff, directory)[0])):
        entry = directory + 2 + 12 * i
        tag, kind, count = struct.unpack_from(order + "HHI", tiff, entry)
        single = count == 1 and kind in (_SHORT, _LONG)
        value = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), tiff, entry + 8)[0]
        tags.append((tag, int(value) if single else None))
    return tags


def orientation_of(tiff: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, if there is none that is valid."""
    if tiff[:4] not in (b"II*\0", b"MM\0*"):
        return 1
    try:
        value = dict(first_directory(tiff)).get(ORIENTATION)
    except struct.error:
        return 1
    return value if value is not None and 1 <= value <= 8 else 1


def tiff_tags(tiff: bytes) -> set[int]:
    """The tags of the first directory; none if the file ends within it."""
    try:
        return {tag for tag, _ in first_directory(tiff)}
    except struct.error:
        return set()
