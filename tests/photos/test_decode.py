"""Tests that every photo becomes correct RGB pixels or one sentence, with limited memory."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edge.errors import PhotoError
from edge.photos.decode import MAX_BYTES, decode_photo, read_photo
from edge.photos.header import photo_size
from tests.daemon_process import environment
from tests.photos.kinds import (
    BLUE,
    GREEN,
    KINDS,
    RED,
    TURNS,
    UNUSUAL,
    YELLOW,
    corners,
    encoded,
    near,
    saved,
    scene,
    turned,
    writes_avif,
)
from tests.refusals import one_sentence


def refusal(content: bytes, name: str = "it.jpg") -> str:
    message = one_sentence(PhotoError, lambda: decode_photo(content, name))
    assert name in message
    return message


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_rgb(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"scene.{kind.lower()}"
    file.write_bytes(encoded(kind))
    pixels = read_photo(file)
    assert (pixels.shape, pixels.dtype, pixels.flags.c_contiguous) == ((48, 64, 3), np.uint8, True)
    assert near(corners(pixels), [RED, GREEN, BLUE, YELLOW])


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_photos_keep_their_colours(kind: str) -> None:
    pixels = decode_photo(UNUSUAL[kind](), kind)
    assert pixels.shape == (48, 64, 3)
    assert near(corners(pixels), [RED, GREEN, BLUE, YELLOW], tolerance=12)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16"])
def test_a_grey_photo_has_three_equal_channels(mode: str) -> None:
    grey = Image.fromarray(scene()).convert("L")
    image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    pixels = decode_photo(saved(image, "PNG"), "grey.png")
    assert pixels.shape == (48, 64, 3)
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 1] == pixels[..., 2]).all()
    assert pixels.min() < pixels.max()


def test_one_pixel_is_a_photo() -> None:
    content = saved(Image.new("RGB", (1, 1), RED), "PNG")
    assert decode_photo(content, "dot.png").tolist() == [[list(RED)]]


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_turns_the_photo_upright(orientation: int) -> None:
    pixels = decode_photo(turned(orientation), "turned.jpg")
    assert pixels.shape == ((48, 64, 3) if orientation <= 4 else (64, 48, 3))
    assert near(corners(pixels), TURNS[orientation], tolerance=12)


def with_thumbnail(photo: bytes) -> bytes:
    """The JPEG with a small JPEG in its EXIF segment, as cameras write it."""
    segment = b"Exif\0\0" + b"II*\0\x08\0\0\0\0\0\0\0\0\0" + encoded("JPEG")
    return photo[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + photo[2:]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", [*KINDS, "JPEG with a thumbnail"])
def test_a_truncated_photo_is_refused_whatever_its_kind(kind: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8))
    content = with_thumbnail(saved(noise, "JPEG")) if "thumbnail" in kind else saved(noise, kind)
    assert decode_photo(content, "whole").shape == (120, 160, 3)
    message = refusal(content[: int(len(content) * share)])
    assert "truncated" in message or "damaged" in message or "is not a photo" in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"A letter, not a photo.\n", "is not a photo"),
        (b"\xff\xd8", "is not a photo"),
        (b"\x89PNG\r\n\x1a\n", "is not a photo"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "is not a photo"),
        (b"GIF89a" + bytes(40), "is not a photo"),
        (b"BM" + bytes(100), "damaged"),
    ],
    ids=["empty", "text", "JPEG's magic", "PNG's magic", "WebP's magic", "GIF", "zeros"],
)
def test_what_is_no_photo_is_refused(content: bytes, said: str) -> None:
    assert said in refusal(content)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match=r"none\.jpg cannot be read: No such file or directory"):
        read_photo(tmp_path / "none.jpg")
    with pytest.raises(PhotoError, match="cannot be read: Is a directory"):
        read_photo(tmp_path)
    with pytest.raises(PhotoError, match="has more than 64 MB"):
        read_photo(Path("/dev/zero"))  # has no size, and never ends
    huge = tmp_path / "huge.jpg"
    huge.touch()
    os.truncate(huge, MAX_BYTES + 1)
    with pytest.raises(PhotoError, match="has more than 64 MB"):
        read_photo(huge)


def test_an_unreadable_photo(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        secret = Path("/proc/self/mem")  # even root cannot read it from its start
    else:
        secret = tmp_path / "secret.jpg"
        secret.write_bytes(encoded("JPEG"))
        secret.chmod(0)
    with pytest.raises(PhotoError, match="cannot be read: "):
        read_photo(secret)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(*, hidden: bool = False) -> bytes:
    """30,000 × 30,000 pixels in a few kB; `hidden`: behind a chunk that looks like a small header."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0))
    front = png_chunk(b"abCd", struct.pack(">II", 1, 1) + bytes(5)) if hidden else b""
    packed = zlib.compressobj(9)
    data = packed.compress(bytes(2_000_000)) + packed.flush()
    return b"\x89PNG\r\n\x1a\n" + front + header + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def tiff(*entries: tuple[int, int, int], tail: bytes = bytes(64)) -> bytes:
    """A little-endian TIFF with (tag, kind, value) entries, and 16 bytes that a value may point at."""
    head = b"II*\0" + struct.pack("<I", 24) + struct.pack("<QQ", 30000, 30000)
    fields = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return head + struct.pack("<H", len(entries)) + fields + bytes(4) + tail


_GREY = ((258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 300), (277, 3, 1), (278, 4, 30000), (279, 4, 10))
_JPEG_BOMB = b"\xff\xd8\xff\xc0\0\x11\x08\x75\x30\x75\x30\x03\1\x22\0\2\x11\1\3\x11\1\xff\xda\0\0\xff\xd9"
BOMBS = {
    "PNG": png_bomb(),
    "PNG behind a chunk": png_bomb(hidden=True),
    "JPEG": _JPEG_BOMB,
    "BMP": b"BM" + bytes(16) + struct.pack("<ii", 30000, -30000) + b"\1\0\x18\0" + bytes(100),
    "WebP": b"RIFF\x30\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (29999).to_bytes(3, "little") * 2 + bytes(40),
    "TIFF": tiff((256, 4, 30000), (257, 4, 30000), *_GREY),
    "TIFF with two widths": tiff((256, 4, 30000), (256, 4, 1), (257, 4, 30000), (257, 4, 1), *_GREY),
    "TIFF with its size elsewhere": tiff((256, 16, 8), (257, 16, 16), *_GREY),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_by_its_header(kind: str) -> None:
    assert len(BOMBS[kind]) < 4096
    message = refusal(BOMBS[kind])
    # The decoder is never called; its error would be "damaged".
    assert "30000×30000 pixels" in message or "is not a photo" in message


def test_bombs_cost_no_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a separate process, whose peak memory is measured; decoded, one photo would take 2700 MB."""
    for number, content in enumerate(BOMBS.values()):
        (tmp_path / f"{number}.bomb").write_bytes(content)
    code = """
import sys
from pathlib import Path
from edge.errors import PhotoError
from edge.photos.decode import read_photo

def peak():  # ru_maxrss would start with the peak of the parent process
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])

before = peak()
for file in Path(sys.argv[1]).iterdir():
    try:
        read_photo(file)
    except PhotoError:
        continue
    raise SystemExit(f"{file} was taken")
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], env=environment(), capture_output=True, text=True, check=True
    )
    grown_kb = int(done.stdout)
    with capsys.disabled():
        print(f"\n{len(BOMBS)} bombs of 30,000 × 30,000 pixels: peak memory grew by {grown_kb / 1024:.1f} MB")
    assert grown_kb < 80 << 10  # the buffer of read_photo is 64 MB, most of it never touched


def test_a_bad_photo_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """The caller prints the sentence; OpenCV's own dozen lines would hide it."""
    for kind in KINDS:
        content = encoded(kind)
        refusal(content[:-20])
        refusal(content[: len(content) // 3])
    refusal(b"BM" + bytes(100))
    assert capfd.readouterr() == ("", "")


def decode_or_refuse(content: bytes) -> None:
    """Fail on any other outcome than pixels or a PhotoError."""
    try:
        pixels = decode_photo(content, "fuzz")
    except PhotoError:
        return
    assert pixels.ndim == 3
    assert (pixels.shape[2], pixels.dtype) == (3, np.uint8)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"RIFF\0\0\0\0WEBP"]),
)
def test_random_bytes_are_pixels_or_refused(content: bytes, magic: bytes) -> None:
    decode_or_refuse(magic + content)


_ANIMATED = [encoded(kind, save_all=True, append_images=[Image.new("RGB", (64, 48))]) for kind in ("GIF", "WEBP")]
_WHOLE = [encoded(kind) for kind in KINDS] + [with_thumbnail(encoded("JPEG")), *BOMBS.values(), *_ANIMATED]
_WHOLE += [make() for make in UNUSUAL.values()] + ([encoded("AVIF")] if writes_avif() else [])


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(_WHOLE), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6), st.integers(0)
)
def test_mutated_photos_are_pixels_or_refused(content: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    mutated = bytearray(content)
    for place, value in changes:
        mutated[place % len(mutated)] = value
    decode_or_refuse(bytes(mutated[: cut % (2 * len(mutated)) + 1]))


def test_the_header_has_the_size_that_the_decoder_sees() -> None:
    for kind in KINDS:
        assert photo_size(encoded(kind)) == (64, 48)
