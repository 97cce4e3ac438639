"""Recognises by its first bytes what a file is that is not read as a photo, and what its user can do instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

HEAD_BYTES = 4096  # enough to recognise each kind


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is.

    Attributes:
        what: with its article, as in "It is a PDF".
        remedy: what to do instead, without a full stop.
        still: whether it is a picture, not a video or a document.
    """

    what: str
    remedy: str
    still: bool = True


_SAVE = "save it as a JPEG or PNG"
_RAW = "export it as a JPEG, or let the camera save JPEGs too"
_PHONE = "save it as a JPEG, or set the phone to take JPEGs (on an iPhone: Settings, Camera, Formats, Most Compatible)"
_UNPACK = "unpack it and give the photos in it"

AVIF = Kind("an AVIF photo", _SAVE)
GIF = Kind("a GIF picture", _SAVE)
_VIDEO = Kind("a video", "give a single picture of it, saved as a JPEG or PNG", still=False)
_COMPANION = Kind("a macOS companion file, not the photo itself", "give the file without ._", still=False)
_WEB_PAGE = Kind("a web page", "save the picture itself", still=False)
_RAW_PHOTO = Kind("a camera's raw photo", _RAW)

# Regular expressions for the beginning of a file; the first that fits counts.
_KINDS: tuple[tuple[bytes, Kind], ...] = (
    (rb"GIF8[79]a", GIF),
    (rb".{4}ftyp(?:avif|avis|.{4}.{4}(?:.{4}){0,12}avi[fs])", AVIF),
    (rb".{4}ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1|heif)", Kind("an HEIC photo", _PHONE)),
    (rb".{4}ftypcrx ", Kind("a camera's raw photo (CR3)", _RAW)),
    (rb"(?:\x00\x00\x00\x0cJXL \r\n\x87\n|\xff\x0a)", Kind("a JPEG XL photo", _SAVE)),
    (rb"(?:\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51)", Kind("a JPEG 2000 photo", _SAVE)),
    (rb"II\xbc\x01", Kind("a JPEG XR photo", _SAVE)),
    (rb"\xff\xd8\xff\xf7", Kind("a JPEG-LS photo", _SAVE)),
    (rb"II[*]\x00.{4}CR", Kind("a camera's raw photo (CR2)", _RAW)),
    (rb"(?:FUJIFILMCCD-RAW|IIU\x00|IIR[OS]|MMOR|FOVb|\x00MRM)", _RAW_PHOTO),
    (rb"(?:II[+]\x00|MM\x00[+])", Kind("a BigTIFF", _SAVE)),
    (rb"8BPS", Kind("a Photoshop document (PSD)", _SAVE)),
    (rb"gimp xcf", Kind("a GIMP document (XCF)", _SAVE)),
    (rb"\x00\x00[\x01\x02]\x00[^\x00]", Kind("an icon (ICO)", _SAVE)),
    (rb"P[1-7F][fF4]?[\s#]", Kind("a portable pixmap (PNM)", _SAVE)),
    (rb"(?:v/1\x01|#\?(?:RADIANCE|RGBE))", Kind("a picture of high dynamic range (EXR or HDR)", _SAVE)),
    (rb"(?:qoif|DDS |BPG\xfb|\x59\xa6\x6a\x95|AT&TFORM)", Kind("a picture of a kind that is not read", _SAVE)),
    (rb"(?:%!PS|\xc5\xd0\xd3\xc6)", Kind("a PostScript document", _SAVE)),
    (rb"(?:\xef\xbb\xbf)?\s*<(?:svg|[?!][^\x00]*<svg)[\s>]", Kind("a drawing (SVG)", _SAVE)),
    (rb"(?i:(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head)[\s>])", _WEB_PAGE),
    (rb".{0,1000}%PDF-", Kind("a PDF", "save its picture as a JPEG or PNG", still=False)),
    (rb"(?:PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ)", Kind("an archive", _UNPACK, still=False)),
    (rb"\x00\x05\x16[\x00\x07]\x00\x02\x00\x00", _COMPANION),
    (rb"(?:.{4}(?:ftyp|moov|mdat|wide)|\x1a\x45\xdf\xa3|\x00\x00\x01[\xb3\xba]|RIFF.{4}AVI )", _VIDEO),
    (rb"(?:FLV\x01|OggS|\x30\x26\xb2\x75)", _VIDEO),
)  # fmt: skip
_PATTERNS = tuple((re.compile(pattern, re.DOTALL), kind) for pattern, kind in _KINDS)


def kind_of(content: bytes) -> Kind | None:
    """What the file is if it is none of JPEG, PNG, WebP, BMP and TIFF; None if that is not known."""
    head = content[:HEAD_BYTES]
    return next((kind for pattern, kind in _PATTERNS if pattern.match(head)), None)


def raw_kind(tags: Mapping[int, int | None]) -> Kind | None:
    """The kind of a TIFF that is a camera's raw photo; None for other TIFFs.

    Args:
        tags: of its first directory. In a raw photo that is a small preview, and the photo lies elsewhere.
    """
    if 0xC612 in tags:  # DNGVersion
        return Kind("a camera's raw photo (DNG)", _RAW)
    # SubIFDs, the maker and its private data (in the EXIF directory). A program that edits photos leaves SubIFDs out,
    # or puts a preview there and states with NewSubfileType 0 that the first directory is the photo itself.
    return _RAW_PHOTO if tags.keys() >= {0x014A, 0x010F, 0x8769} and tags.get(0x00FE) != 0 else None
