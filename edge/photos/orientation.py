"""Turns a photo upright, as its EXIF data or an AVIF's properties ask.

OpenCV is not asked to: 4.6 and 4.10 ignore the EXIF data of a WebP, and no version reads the properties of an AVIF.
"""

from __future__ import annotations

import re
import struct

import cv2
import numpy as np

from edge.frames import Pixels
from edge.photos.header import MAX_META_BYTES, boxes, jpeg_segment, properties, riff_chunks
from edge.photos.tiff_tags import UPRIGHT, orientation_of


def orientation(content: bytes) -> int:
    """The EXIF orientation of the stored picture, 1 to 8; 1 for a TIFF, which every OpenCV turns."""
    if content.startswith(b"\xff\xd8"):
        return orientation_of(_jpeg_exif(content))
    if content.startswith(b"\x89PNG"):
        return orientation_of(_png_exif(content))
    if content.startswith(b"RIFF"):
        exif = next((data for kind, data in riff_chunks(content) if kind == b"EXIF"), b"")
        return orientation_of(_after_prefix(exif))
    if content[4:8] == b"ftyp":
        return _avif_orientation(content)
    return UPRIGHT


def upright(pixels: Pixels, value: int) -> Pixels:
    """The picture, stored with the EXIF orientation `value`, as it is to be seen; `pixels` is overwritten."""
    if value >= 5:  # rows and columns are exchanged
        pixels = np.asarray(cv2.transpose(pixels), np.uint8)
    if value in _FLIPS:
        pixels = np.asarray(cv2.flip(pixels, _FLIPS[value], dst=pixels), np.uint8)
    return pixels


def _after_prefix(exif: bytes) -> bytes:
    return exif.removeprefix(b"Exif\0\0")


def _jpeg_exif(content: bytes) -> bytes:
    at = 2
    while (at := jpeg_segment(content, {0xE1}, at)) < len(content) and content[at + 1] == 0xE1:
        length = int(struct.unpack_from(">H", content, at + 2)[0])
        if content.startswith(b"Exif\0\0", at + 4):
            return content[at + 10 : at + 2 + length]
        at += 2 + length
    return b""


def _png_exif(content: bytes) -> bytes:
    at = 8
    while at + 8 <= len(content):
        length = int(struct.unpack_from(">I", content, at)[0])
        if content[at + 4 : at + 8] == b"eXIf":
            return _after_prefix(content[at + 8 : at + 8 + length])
        at += 12 + length
    return b""


_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # cv2.flip's: 1 left and right, 0 top and bottom, -1 both
_TIFF = re.compile(rb"II\*\0|MM\0\*")
_TURNS = {0: 1, 1: 8, 2: 3, 3: 6}  # quarter turns to the left, as the picture is shown: EXIF's value
_MIRRORED = {  # EXIF's value after a turn: top and bottom exchanged, left and right exchanged
    1: (4, 2),
    8: (5, 7),
    3: (2, 4),
    6: (7, 5),
}


def _avif_orientation(content: bytes) -> int:
    """From the properties irot and imir; without them from the EXIF data, as other programs write it."""
    found = dict(reversed(properties(content)))
    if b"irot" in found or b"imir" in found:
        turned = _TURNS[found[b"irot"][0] & 3] if found.get(b"irot") else UPRIGHT
        return _MIRRORED[turned][found[b"imir"][0] & 1] if found.get(b"imir") else turned
    if b"Exif" not in content[:MAX_META_BYTES]:
        return UPRIGHT
    for kind, start, end in boxes(content, 0, len(content)):
        if kind == b"mdat" and (exif := _TIFF.search(content, start, end)):
            return orientation_of(content[exif.start() : end])
    return UPRIGHT
