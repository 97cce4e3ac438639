"""Tests that a file which is not read is named, with what to do, and that GIF and AVIF are read where OpenCV can."""

import struct

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin, TiffTags

from edge.errors import PhotoError
from edge.photos.decode import decode_photo, reads
from edge.photos.header import is_photo
from edge.photos.kinds import AVIF, GIF
from tests.photos.kinds import BLUE, GREEN, RED, YELLOW, corners, near, saved, scene, writes_avif
from tests.refusals import one_sentence


def boxed(brand: bytes, *others: bytes) -> bytes:
    """The beginning of a file of the family of MP4, with its brands."""
    body = b"ftyp" + brand + bytes(4) + b"".join(others)
    return struct.pack(">I", len(body) + 4) + body + bytes(200)


def tiff_of(*tags: int) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, 100) for tag in sorted({256, 257, *tags}))
    return b"II*\0" + struct.pack("<IH", 8, len(entries) // 12) + entries + bytes(400)


NAMED = {
    "an iPhone's HEIC": (boxed(b"heic", b"mif1", b"heic"), "an HEIC photo", "Most Compatible"),
    "HEIF by another brand": (boxed(b"mif1", b"mif1", b"heic"), "an HEIC photo", "JPEG"),
    "burst": (boxed(b"msf1", b"hevc"), "an HEIC photo", "JPEG"),
    "JPEG XL in boxes": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "a JPEG XL photo", "JPEG"),
    "JPEG XL": (b"\xff\x0a" + bytes(40), "a JPEG XL photo", "JPEG"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "a JPEG 2000 photo", "JPEG"),
    "JPEG 2000 code stream": (b"\xff\x4f\xff\x51" + bytes(40), "a JPEG 2000 photo", "JPEG"),
    "CR2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "a camera's raw photo (CR2)", "export"),
    "CR3": (boxed(b"crx "), "a camera's raw photo (CR3)", "export"),
    "DNG": (tiff_of(0xC612), "a camera's raw photo (DNG)", "export"),
    "NEF": (tiff_of(0x010F, 0x014A, 0x8769), "a camera's raw photo", "export"),
    "RAF": (b"FUJIFILMCCD-RAW 0201" + bytes(40), "a camera's raw photo", "export"),
    "BigTIFF": (b"II+\0\x08\0\0\0" + bytes(40), "a BigTIFF", "JPEG"),
    "PSD": (b"8BPS\0\1" + bytes(40), "a Photoshop document (PSD)", "JPEG"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "a drawing (SVG)", "JPEG"),
    "SVG as programs write it": (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- x -->\n<svg>', "a drawing (SVG)", "JPEG"),
    "PDF": (b"%PDF-1.7\n" + bytes(40), "a PDF", "JPEG"),
    "ICO": (b"\0\0\1\0\1\0\x10\x10" + bytes(40), "an icon (ICO)", "PNG"),
    "a saved web page": (b"\n<!DOCTYPE html>\n<html>", "a web page", "save the picture"),
    "ZIP": (b"PK\3\4" + bytes(40), "an archive", "unpack"),
    "MP4": (boxed(b"isom", b"avc1"), "a video", "single picture"),
    "MOV": (boxed(b"qt  "), "a video", "single picture"),
    "WebM": (b"\x1a\x45\xdf\xa3" + bytes(40), "a video", "single picture"),
    "AVI": (b"RIFF\0\0\0\0AVI LIST" + bytes(40), "a video", "single picture"),
    "._IMG_1.JPG": (b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(40), "a macOS companion file", "without ._"),
}


@pytest.mark.parametrize("kind", NAMED)
def test_a_file_that_is_not_read_is_called_by_its_name_with_what_to_do(kind: str) -> None:
    content, what, remedy = NAMED[kind]
    message = one_sentence(PhotoError, lambda: decode_photo(content, "it.jpg"))
    assert message.startswith(f"it.jpg is {what}")
    assert "which cannot be decoded here; " in message
    assert remedy in message


def test_a_photo_with_a_preview_behind_it_is_no_raw_photo() -> None:
    """Programs that edit photos keep the camera's name and EXIF data, and put a preview into SubIFDs."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x00FE], tags[0x010F], tags[0x014A], tags[0x8769] = 0, "Maker", 8, 8
    tags.tagtype[0x014A] = tags.tagtype[0x8769] = TiffTags.LONG
    pixels = decode_photo(saved(Image.fromarray(scene()), "TIFF", tiffinfo=tags), "it")
    assert near(corners(pixels), [RED, GREEN, BLUE, YELLOW])


def test_a_still_picture_is_not_taken_for_a_video() -> None:
    """`file:` gives what is no photo to the video reader, and FFmpeg reads a tile of an HEIC."""
    assert is_photo(NAMED["an iPhone's HEIC"][0])
    assert not is_photo(NAMED["MP4"][0])


def animated(kind: str) -> bytes:
    first, second = Image.fromarray(scene()), Image.new("RGB", (64, 48), RED)
    return saved(first, kind, save_all=True, append_images=[second], duration=100, loop=0)


def photo_or_name(content: bytes, what: str, can: bool) -> None:
    if not can:
        with pytest.raises(PhotoError, match=rf"it is {what}, which cannot be decoded here; save it as a JPEG or PNG"):
            decode_photo(content, "it")
        return
    pixels = decode_photo(content, "it")
    assert pixels.shape == (48, 64, 3)
    assert near(corners(pixels), [RED, GREEN, BLUE, YELLOW], tolerance=16)


@pytest.mark.parametrize("content", [saved(Image.fromarray(scene()), "GIF"), animated("GIF")], ids=["one", "animated"])
def test_a_gif_is_its_first_picture_or_called_a_gif(content: bytes) -> None:
    photo_or_name(content, "a GIF picture", reads(GIF))


@pytest.mark.skipif(not reads(GIF), reason="this OpenCV reads no GIF")
def test_a_gif_may_have_half_the_pixels_because_its_decoder_needs_more_memory() -> None:
    large = b"GIF89a" + struct.pack("<HH", 5001, 5000) + bytes(3) + b";"
    with pytest.raises(PhotoError, match="5001×5000 pixels; make it smaller than 25 megapixels"):
        decode_photo(large, "large.gif")


@pytest.mark.skipif(not writes_avif(), reason="this Pillow does not write AVIF")
def test_an_avif_is_a_photo_or_called_an_avif() -> None:
    photo_or_name(saved(Image.fromarray(scene()), "AVIF"), "an AVIF photo", reads(AVIF))


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_of_an_animation_the_first_picture_counts(kind: str) -> None:
    """OpenCV before 4.11 reads no animated WebP."""
    photo_or_name(animated(kind), "", can=True)


def test_an_animated_webp_that_hides_its_size_is_refused_by_its_frame() -> None:
    huge = saved(Image.new("L", (16383, 4000)), "WEBP", lossless=True, method=0)
    chunk = huge[12:]
    frame = b"ANMF" + struct.pack("<I", 16 + len(chunk)) + bytes(16) + chunk
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + bytes(6) + frame
    with pytest.raises(PhotoError, match="16383×4000 pixels"):
        decode_photo(b"RIFF" + struct.pack("<I", len(body)) + body, "small.webp")


def test_a_transparent_webp_keeps_its_colours() -> None:
    pixels = decode_photo(saved(Image.fromarray(scene()).convert("RGBA"), "WEBP", lossless=True), "it")
    assert np.array_equal(pixels, scene())
