"""Tests that a torn photo is refused with every OpenCV, and that a whole one with unusual bytes is not."""

import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from edge.errors import PhotoError
from edge.photos.decode import decode_photo, reads
from edge.photos.kinds import GIF
from tests.photos.kinds import encoded, saved

SLOPES, NOISE = np.indices((240, 320)).sum(0)[..., None] // [2, 3, 4] % 200, np.random.default_rng(0)
PICTURE = Image.fromarray((SLOPES + NOISE.integers(0, 50, (240, 320, 3))).astype(np.uint8))
JPEGS = {
    "JPEG": saved(PICTURE, "JPEG"),
    "optimised": saved(PICTURE, "JPEG", optimize=True),
    "restart markers": saved(PICTURE, "JPEG", restart_marker_rows=1),
    "grey": saved(PICTURE.convert("L"), "JPEG"),
    "CMYK": saved(PICTURE.convert("CMYK"), "JPEG"),
    "progressive": saved(PICTURE, "JPEG", progressive=True),
}
OTHERS = {
    "PNG": saved(PICTURE, "PNG"),
    "WebP": saved(PICTURE, "WEBP"),
    "lossless WebP": saved(PICTURE, "WEBP", lossless=True),
    "LZW TIFF": saved(PICTURE, "TIFF", compression="tiff_lzw"),
    "GIF": saved(PICTURE, "GIF"),
}
if not reads(GIF):
    del OTHERS["GIF"]
ALL = JPEGS | OTHERS
TORN = "truncated|damaged|is not a photo"


def cut(content: bytes, share: float) -> bytes:
    return content[: int(len(content) * share)]


@pytest.mark.parametrize("share", [0.15, 0.5, 0.99])
@pytest.mark.parametrize("kind", ALL)
def test_the_first_part_of_a_photo_is_refused(kind: str, share: float) -> None:
    assert decode_photo(ALL[kind], "whole").shape == (240, 320, 3)
    with pytest.raises(PhotoError, match=TORN):
        decode_photo(cut(ALL[kind], share), "torn")


@pytest.mark.parametrize("share", [0.15, 0.45])
@pytest.mark.parametrize("kind", ALL)
def test_a_photo_whose_rest_is_zeros_is_refused(kind: str, share: float) -> None:
    """As after a power cut, or while a program copies it into a file that has its full length already."""
    part = cut(ALL[kind], share)
    with pytest.raises(PhotoError, match=TORN):
        decode_photo(part + bytes(len(ALL[kind]) - len(part)), "torn")


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
def test_zeros_from_a_page_of_the_file_on_are_no_black_rows(kind: str) -> None:
    content = saved(PICTURE, kind)
    there = len(content) // 2 & ~4095
    with pytest.raises(PhotoError, match="truncated"):
        decode_photo(content[:there] + bytes(len(content) - there), "torn")


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PNG", "JPEG", "WEBP"])
def test_black_rows_are_part_of_a_photo(kind: str) -> None:
    dark = np.asarray(PICTURE).copy()
    dark[120:] = 0
    assert decode_photo(saved(Image.fromarray(dark), kind), "dark").shape == (240, 320, 3)
    assert decode_photo(saved(Image.new("RGB", (320, 240)), kind), "black").shape == (240, 320, 3)


@pytest.mark.parametrize("share", [0.15, 0.5, 0.9])
@pytest.mark.parametrize("kind", [kind for kind in JPEGS if kind != "progressive"])
def test_an_end_marker_does_not_make_a_torn_jpeg_whole(kind: str, share: float) -> None:
    """Programs for recovery put it there; the decoder then fills the rest with grey."""
    with pytest.raises(PhotoError, match="truncated"):
        decode_photo(cut(JPEGS[kind], share) + b"\xff\xd9", "torn")


def test_some_scans_of_a_progressive_jpeg_are_not_a_photo() -> None:
    content = JPEGS["progressive"]
    scans = [at for at in range(len(content)) if content[at : at + 2] == b"\xff\xda"]
    for scan in scans[1:]:
        with pytest.raises(PhotoError, match="truncated"):
            decode_photo(content[:scan] + b"\xff\xd9", "torn")


def with_segment(photo: bytes, data: bytes) -> bytes:
    return photo[:2] + b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data + photo[2:]


THUMBNAIL = encoded("JPEG")
FOOLING: dict[str, Callable[[bytes], bytes]] = {
    "a thumbnail in front": lambda photo: cut(with_segment(photo, b"Exif\0\0II*\0" + bytes(12) + THUMBNAIL), 0.5),
    "another photo behind": lambda photo: cut(photo, 0.5) + THUMBNAIL,
    "zeros and a photo behind": lambda photo: cut(photo, 0.5) + bytes(3000) + THUMBNAIL,
}


@pytest.mark.parametrize("how", FOOLING)
def test_the_end_of_another_picture_does_not_make_a_torn_jpeg_whole(how: str) -> None:
    with pytest.raises(PhotoError, match="truncated"):
        decode_photo(FOOLING[how](JPEGS["JPEG"]), "torn")


@pytest.mark.parametrize("behind", [b"\0" * 5000, b"SEFT trailer", THUMBNAIL, b"\xff" * 9], ids=repr)
def test_what_follows_a_whole_jpeg_does_not_matter(behind: bytes) -> None:
    """Phones put a preview, a depth map or a video behind the photo."""
    for content in JPEGS.values():
        assert decode_photo(content + behind, "whole").shape == (240, 320, 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 3}])
def test_a_whole_photo_may_end_in_the_grey_that_decoders_fill_in(
    mode: str, options: dict[str, object], capfd: pytest.CaptureFixture[str]
) -> None:
    grey = np.asarray(PICTURE).copy()
    grey[100:] = 128
    content = saved(Image.fromarray(grey).convert(mode), "JPEG", **options)
    assert decode_photo(content, "grey").shape == (240, 320, 3)
    assert capfd.readouterr().err == ""


ARITHMETIC = (  # 32 × 24 pixels, as cjpeg -arithmetic writes them
    b"\xff\xd8\xff\xdb\0\x43\0" + b"\x08" * 64 + b"\xff\xdb\0\x43\1" + b"\x08" * 64
    + b"\xff\xc9\0\x11\x08\0\x18\0 \3\1\x22\0\2\x11\1\3\x11\1\xff\xcc\0\n\0\x10\x10\5\1\x10\x11\5"
    + b"\xff\xda\0\x0c\3\1\0\2\x11\3\x11\0?\0"
    + b"\xce\xe1R\xbe\x0b\x1f\xd5az\x7f\xb3\xe0\x8c\x86?\x22\xad\xff\xd9"
)  # fmt: skip


def test_a_whole_photo_in_arithmetic_code_may_end_in_that_grey() -> None:
    """Its encoder leaves out the zeros at its end, so the decoder uses what follows."""
    pixels = decode_photo(ARITHMETIC, "grey")
    assert pixels.shape == (24, 32, 3)
    assert (pixels[-1, -4:] == 128).all()


def run_length_bmp() -> bytes:
    """A BMP of 32 × 16 pixels in run-length code: each row one run, then its end; at last the end of the picture."""
    rows = b"".join(bytes([32, row, 0, 0]) for row in range(16)) + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, 32, 16, 1, 8, 1, len(rows), 0, 0, 256, 0)
    palette = b"".join(bytes([grey, grey, grey, 0]) for grey in range(256))
    return struct.pack("<2sIII", b"BM", 54 + 1024 + len(rows), 0, 54 + 1024) + head + palette + rows


def palette_at_the_end() -> bytes:
    """A TIFF whose pixels are in front of its palette, which is the last part of the file."""
    tags = ((256, 3, 1, 32), (257, 3, 1, 16), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 3), (273, 4, 1, 8))
    tags += ((277, 3, 1, 1), (278, 3, 1, 16), (279, 4, 1, 512), (320, 3, 768, 8 + 512 + 2 + 12 * 10 + 4))
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    pixels = b"".join(bytes([row] * 32) for row in range(16))
    palette = struct.pack("<768H", *[257 * grey for grey in range(256)] * 3)
    return b"II*\0" + struct.pack("<I", 520) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4) + palette


@pytest.mark.parametrize("make", [run_length_bmp, palette_at_the_end])
def test_the_end_of_a_photo_with_a_palette_counts(make: Callable[[], bytes]) -> None:
    """OpenCV leaves what is missing black, and shows the wrong colours without the palette."""
    content = make()
    assert set(decode_photo(content, "whole").ravel().tolist()) == set(range(16))
    for missing in (1, 10, 40):
        with pytest.raises(PhotoError, match="truncated"):
            decode_photo(content[:-missing], "torn")
