"""Tests that a photo is upright whatever its format and its EXIF orientation, with every OpenCV."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edge.photos.decode import decode_photo, reads
from edge.photos.kinds import AVIF
from tests.photos.kinds import BLUE, GREEN, RED, YELLOW, corners, near, saved, scene, writes_avif

UPRIGHT = [RED, GREEN, BLUE, YELLOW]
# The stored picture that each orientation turns into the scene.
STORED = {
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.transpose(1, 0, 2),
    6: lambda seen: seen.transpose(1, 0, 2)[::-1],
    7: lambda seen: seen.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda seen: seen.transpose(1, 0, 2)[:, ::-1],
}


def with_exif(kind: str, orientation: int, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(Image.fromarray(np.ascontiguousarray(STORED[orientation](scene()))), kind, exif=exif, **options)


def is_upright(content: bytes) -> bool:
    pixels = decode_photo(content, "it")
    return pixels.shape == (48, 64, 3) and pixels.flags.c_contiguous and near(corners(pixels), UPRIGHT, tolerance=16)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_turns_every_format_upright(kind: str, orientation: int) -> None:
    assert is_upright(with_exif(kind, orientation))


@pytest.mark.parametrize("orientation", STORED)
def test_an_avif_is_turned_by_its_properties(orientation: int) -> None:
    if not (writes_avif() and reads(AVIF)):
        pytest.skip("this OpenCV or Pillow has no AVIF")
    assert is_upright(with_exif("AVIF", orientation))


@pytest.mark.parametrize("orientation", [3, 6])
def test_unusual_variants_are_turned_too(orientation: int) -> None:
    assert is_upright(with_exif("WEBP", orientation, lossless=True))
    assert is_upright(with_exif("JPEG", orientation, progressive=True))
    assert is_upright(with_exif("TIFF", orientation, compression="tiff_lzw"))
    assert is_upright(big_endian_behind_xmp(orientation))
    assert is_upright(sixteen_bits(orientation))


def big_endian_behind_xmp(orientation: int) -> bytes:
    """A JPEG as editors write it: XMP in front of the EXIF data, whose numbers are big-endian."""
    plain = saved(Image.fromarray(np.ascontiguousarray(STORED[orientation](scene()))), "JPEG")
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data for data in (xmp, exif))
    return plain[:2] + segments + plain[2:]


@pytest.mark.parametrize(("kind", "packed"), [(1, "B3x"), (3, "H2x"), (4, "I"), (6, "b3x"), (8, "h2x"), (9, "i")])
@pytest.mark.parametrize("order", ["<", ">"])
def test_an_orientation_of_any_integer_type_counts(order: str, kind: int, packed: str) -> None:
    """The standard wants 16 bits; some cameras write a signed number of 32."""
    plain = saved(Image.fromarray(np.ascontiguousarray(STORED[6](scene()))), "JPEG")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    exif = b"Exif\0\0" + mark + struct.pack(order + "IHHHI" + packed + "I", 8, 1, 0x0112, kind, 1, 6, 0)
    assert is_upright(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:])


def sixteen_bits(orientation: int) -> bytes:
    """A PNG of 16 bits whose eXIf chunk follows the pixels, as the standard allows."""
    stored = cv2.cvtColor(np.ascontiguousarray(STORED[orientation](scene())), cv2.COLOR_RGB2BGR)
    plain = cv2.imencode(".png", stored.astype(np.uint16) * 257)[1].tobytes()
    exif = b"eXIfII*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    chunk = struct.pack(">I", len(exif) - 4) + exif + struct.pack(">I", zlib.crc32(exif))
    return plain[:-12] + chunk + plain[-12:]


def test_a_real_photo_is_the_same_as_jpeg_and_as_webp(testdata: Path) -> None:
    """Both are turned by EXIF; OpenCV 4.6 and 4.10 showed the WebP lying on its side."""
    cases = [testdata / "cases" / f"n04146614_school_bus.{ending}" for ending in ("jpg", "webp")]
    if not all(case.is_file() for case in cases):
        pytest.skip("EDGE_CLASSIFIER_TESTDATA has no cases")
    found = [decode_photo(case.read_bytes(), case.name) for case in cases]
    assert found[0].shape == found[1].shape == (334, 500, 3)
    assert np.abs(found[0].astype(int) - found[1]).mean() < 8


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_means_nothing_turns_nothing(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert is_upright(saved(Image.fromarray(scene()), "JPEG", exif=exif))


@pytest.mark.parametrize("length", range(6, 40))
def test_exif_data_that_end_early_turn_nothing(length: int) -> None:
    plain = saved(Image.fromarray(scene()), "JPEG")
    exif = (b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 1, 0, 0))[:length]
    assert is_upright(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:])
