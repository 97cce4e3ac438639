"""The first picture of an animated WebP; OpenCV before 4.11 reads only WebPs of one picture."""

from __future__ import annotations

import struct

from edge.photos.header import riff_chunks

_ANIMATED = 0x02  # in the flags of the chunk VP8X
_FRAME_HEAD = 16  # bytes of place, size and duration in front of a frame's own chunks


def first_picture(content: bytes) -> bytes:
    """An animated WebP's first picture as a WebP, without its transparency; any other photo as it is."""
    if not content.startswith(b"RIFF") or content[12:16] != b"VP8X" or not content[20] & _ANIMATED:
        return content
    frame = next((data for kind, data in riff_chunks(content) if kind == b"ANMF"), b"")
    for kind, data in riff_chunks(frame, _FRAME_HEAD):
        if kind in (b"VP8 ", b"VP8L"):
            chunk = kind + struct.pack("<I", len(data)) + data + bytes(len(data) & 1)
            return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk
    return content
