"""Tests that a stranger's photo costs at most its limits of time and memory, and the daemon nothing but the answer."""

import contextlib
import os
import re
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge.errors import BusyError, PhotoError, PhotoTooLargeError
from edge.frames import Pixels
from edge.photos import decoder as module
from edge.photos.decode import decode_photo, fitting_reduction
from edge.photos.decoder import PhotoDecoder
from tests.broker import eventually
from tests.daemon_process import environment
from tests.photos.bombs import huge_tile, many_scans
from tests.photos.kinds import KINDS, encoded, saved, turned
from tests.photos.test_decode import BOMBS, png_chunk
from tests.refusals import one_sentence
from tests.strangers_decoder import cpu_s, decoders_of, peak_bytes

SLACK_S = 3.0  # tolerance for a busy machine, and for the start of a child
WAIT_S = 20.0
LEAN_BYTES = 64 << 20  # what the pixels of no bomb fit into


@pytest.fixture(autouse=True, scope="module")
def no_decoder_of_other_tests() -> None:
    for child in decoders_of(os.getpid()):
        os.kill(child, signal.SIGKILL)  # the next photo starts another
    eventually(lambda: not decoders_of(os.getpid()), "they end")


@pytest.fixture
def decoder() -> Iterator[PhotoDecoder]:
    started = PhotoDecoder()
    yield started
    started.close()
    assert decoders_of(os.getpid()) == []


@pytest.fixture(scope="module")
def slow() -> bytes:
    return many_scans()


def child_of(process: int) -> int:
    (child,) = decoders_of(process)
    return child


@contextlib.contextmanager
def decoding(decoder: PhotoDecoder, content: bytes) -> Iterator[tuple[int, Future[Pixels]]]:
    """The process that decodes a photo, once it does, and the answer to come."""
    decoder.decode(encoded("PNG"), "first")
    child = child_of(os.getpid())
    before_s = cpu_s(child)
    with ThreadPoolExecutor(1) as other:
        answer = other.submit(decoder.decode, content, "slow.jpg")
        eventually(lambda: cpu_s(child) > before_s + 0.1, "it decodes")
        yield child, answer


def test_pixels_and_messages_are_those_of_every_other_photo(decoder: PhotoDecoder) -> None:
    for content in (*map(encoded, KINDS), turned(6), encoded("PNG")):
        assert np.array_equal(decoder.decode(content, "it"), decode_photo(content, "it"))
    whole = encoded("JPEG")
    for content in (b"", b"A letter.", whole[:-20], b"BM" + bytes(100), whole[:40], *BOMBS.values()):
        with pytest.raises(PhotoError) as here:
            decode_photo(content, "it")
        with pytest.raises(PhotoError) as there:
            decoder.decode(content, "it")
        assert (type(there.value), str(there.value)) == (type(here.value), str(here.value))
    assert len(decoders_of(os.getpid())) == 1


def test_pixels_stay_when_the_next_photo_is_decoded_and_are_the_callers_own(decoder: PhotoDecoder) -> None:
    first = decoder.decode(encoded("PNG"), "first")
    kept = first.copy()
    other = decoder.decode(encoded("BMP"), "other")
    other[:] = 0
    decoder.close()
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("name", ["\ud800.jpg", "ü" * 5000, "", '"}'])
def test_a_photo_may_have_any_name(decoder: PhotoDecoder, name: str) -> None:
    assert decoder.decode(encoded("PNG"), name).shape == (48, 64, 3)
    with pytest.raises(PhotoError, match="is not a photo") as raised:
        decoder.decode(b"A letter.", name)
    assert str(raised.value).startswith(name[:200])


def test_a_photo_that_takes_too_long_is_refused_and_the_next_one_decoded(decoder: PhotoDecoder, slow: bytes) -> None:
    began = time.monotonic()
    message = one_sentence(PhotoTooLargeError, lambda: decoder.decode(slow, "slow.jpg"))
    assert message.startswith("slow.jpg takes more than 2 s to decode; ")
    assert time.monotonic() - began < module.WITHIN_S + SLACK_S
    assert decoder.decode(encoded("PNG"), "next").shape == (48, 64, 3)


def test_a_child_that_gets_no_processor_time_is_given_up(
    decoder: PhotoDecoder, slow: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WITHIN_S", 0.5)
    decoder.decode(encoded("PNG"), "first")
    os.kill(child_of(os.getpid()), signal.SIGSTOP)
    with pytest.raises(PhotoTooLargeError, match=r"slow\.jpg takes more than 2 s"):
        decoder.decode(slow, "slow.jpg")
    assert decoder.decode(encoded("PNG"), "next").shape == (48, 64, 3)


def test_a_photo_that_takes_too_much_memory_is_refused_within_its_limit() -> None:
    """Without the limit this one takes 1,048 MB; see `huge_tile`."""
    decoder = PhotoDecoder(memory_bytes=LEAN_BYTES)
    with contextlib.closing(decoder):
        decoder.decode(encoded("PNG"), "first")
        child = child_of(os.getpid())
        before = peak_bytes(child)
        one_sentence(PhotoError, lambda: decoder.decode(huge_tile(), "tile.tif"))
        assert peak_bytes(child) - before < LEAN_BYTES
        large = saved(Image.new("RGB", (8000, 6000)), "JPEG")
        message = one_sentence(PhotoTooLargeError, lambda: decoder.decode(large, "large.jpg"))
        assert message == "large.jpg needs more memory than a photo may take; make it smaller."
        assert peak_bytes(child) - before < LEAN_BYTES
        assert decoder.decode(encoded("PNG"), "next").shape == (48, 64, 3)


def _png_with(chunks: bytes) -> bytes:
    content = encoded("PNG")
    return content[:33] + chunks + content[33:]  # after IHDR


def test_a_photo_takes_no_more_memory_than_the_box_has_free() -> None:
    free = [0]
    decoder = PhotoDecoder(free_bytes=lambda: free[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # turned, as a phone's are: the pixels are in memory twice
    of_a_phone = saved(Image.new("RGB", (4032, 3024)), "JPEG", exif=exif)
    large = saved(Image.new("RGB", (8192, 6103)), "PNG")
    with contextlib.closing(decoder):
        decoder.decode(encoded("PNG"), "first")  # even where nothing is free
        child = child_of(os.getpid())
        before = peak_bytes(child)
        free[0] = 112 << 20
        message = one_sentence(PhotoTooLargeError, lambda: decoder.decode(large, "large.png"))
        assert message == (
            "large.png is too large for this box's memory, of which a photo may take 80 MB now; make it smaller."
        )
        assert decoder.decode(of_a_phone, "phone.jpg").shape == (4032, 3024, 3)
        assert peak_bytes(child) - before < 80 << 20
        free[0] = 64 << 20  # a JPEG is then averaged by two while it is decoded
        assert decoder.decode(of_a_phone, "phone.jpg").shape == (2016, 1512, 3)
        assert decoder.decode(encoded("PNG"), "small.png").shape == (48, 64, 3)
        free[0] = 1 << 30  # the limit is of each photo, not of the process
        assert decoder.decode(large, "large.png").shape == (6103, 8192, 3)
        assert child_of(os.getpid()) == child


def test_a_photo_that_is_reduced_while_it_is_decoded_looks_the_same() -> None:
    smooth = np.random.default_rng(1).integers(0, 256, (12, 16, 3), np.uint8)
    content = saved(Image.fromarray(smooth).resize((2048, 1536), Image.Resampling.BICUBIC), "JPEG")
    whole, room = decode_photo(content, "it"), 2048 * 1536 * 6 + len(content)
    assert [fitting_reduction(content, memory) for memory in (room, room - 1, room // 8, 0)] == [1, 2, 1, 1]
    half = decode_photo(content, "it", reduced=2)
    averaged = whole.reshape(768, 2, 1024, 2, 3).mean((1, 3))
    assert np.abs(half - averaged).mean() < 1
    assert fitting_reduction(encoded("PNG"), 0) == 1
    for broken in (b"", content[:10], b"\xff\xd8"):
        assert fitting_reduction(broken, 0) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: _png_with(png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(60 << 20), 9)) * 40),
        lambda: _png_with(png_chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(200 << 20), 9))),
        lambda: _png_with(png_chunk(b"tEXt", b"k\0v") * 200_000),
        lambda: _png_with((png_chunk(b"tEXt", b"k\0v")[:-4] + b"oops") * 200_000),
        lambda: saved(Image.new("CMYK", (7000, 7000)), "JPEG", progressive=True),
        lambda: saved(Image.new("RGB", (7000, 7000)), "JPEG", progressive=True, subsampling=0),
        lambda: saved(Image.new("RGB", (16383, 3000)), "WEBP", lossless=True),
        lambda: b"\xff\xd8" + b"\xff" * (12 << 20),
    ],
    ids=["texts", "profile", "chunks", "checksum", "CMYK", "4:4:4", "WebP", "fill bytes"],
)
def test_other_bombs_cost_no_more_than_the_limits(decoder: PhotoDecoder, make: Callable[[], bytes]) -> None:
    bomb = make()
    decoder.decode(encoded("PNG"), "first")
    child = child_of(os.getpid())
    before, before_s, began = peak_bytes(child), cpu_s(child), time.monotonic()
    with contextlib.suppress(PhotoError):
        assert decoder.decode(bomb, "bomb").shape[2] == 3
    if child in decoders_of(os.getpid()):
        assert peak_bytes(child) - before < module.MEMORY_BYTES
        assert cpu_s(child) - before_s < module.CPU_S + 0.5
    assert time.monotonic() - began < module.WITHIN_S + SLACK_S
    assert decoder.decode(encoded("PNG"), "next").shape == (48, 64, 3)


def test_the_largest_photo_fits_into_the_limit(decoder: PhotoDecoder) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned, for which OpenCV needs the pixels twice
    largest = saved(Image.new("RGB", (8192, 6103)), "JPEG", exif=exif)
    assert decoder.decode(largest, "largest.jpg").shape == (8192, 6103, 3)


def test_a_killed_child_is_replaced(decoder: PhotoDecoder, slow: bytes, caplog: pytest.LogCaptureFixture) -> None:
    decoder.decode(encoded("PNG"), "first")
    os.kill(child_of(os.getpid()), signal.SIGKILL)
    eventually(lambda: not decoders_of(os.getpid()), "it ends")
    assert decoder.decode(encoded("PNG"), "second").shape == (48, 64, 3)
    assert caplog.records == []
    reasons = {signal.SIGKILL: "where memory runs out; make it smaller.", signal.SIGSEGV: "is damaged or of a kind"}
    for number, said in reasons.items():
        with decoding(decoder, slow) as (child, answer):
            os.kill(child, number)
            with pytest.raises(PhotoError, match=said):
                answer.result(WAIT_S)
        assert decoder.decode(encoded("PNG"), "next").shape == (48, 64, 3)
    assert [re.sub(r"\d+ s\)", "N s)", record.getMessage()) for record in caplog.records] == [
        "The process that decodes photos has ended with signal 9 (Killed) during one; the daemon goes on.",
        "The process that decodes photos has ended with signal 11 (Segmentation fault) during one; the daemon goes on."
        " (2 times in N s)",  # however slow this machine is
    ]


@pytest.mark.parametrize("before", [True, False], ids=["as it comes", "as it waits"])
def test_a_photo_that_a_killed_child_had_not_taken_is_decoded_by_another(
    decoder: PhotoDecoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, before: bool
) -> None:
    decoder.decode(encoded("PNG"), "first")
    child = child_of(os.getpid())
    os.kill(child, signal.SIGSTOP)
    send = module.socket.send_fds

    def killed_around(*arguments: Any) -> int:
        if not before:
            send(*arguments)
        if child in decoders_of(os.getpid()):
            os.kill(child, signal.SIGKILL)
            eventually(lambda: child not in decoders_of(os.getpid()), "it ends")
        return send(*arguments) if before else 0

    monkeypatch.setattr(module.socket, "send_fds", killed_around)
    assert decoder.decode(encoded("PNG"), "second").shape == (48, 64, 3)
    assert child_of(os.getpid()) != child
    assert caplog.records == []


def test_a_child_without_photos_ends_and_the_next_photo_starts_another() -> None:
    decoder = PhotoDecoder(idle_s=0.01)
    with contextlib.closing(decoder):
        for _ in range(5):  # some of them meet a child that is about to end
            assert decoder.decode(encoded("PNG"), "it").shape == (48, 64, 3)
        eventually(lambda: decoders_of(os.getpid()) == [], "it ends")


def test_closing_ends_a_photo_that_is_being_decoded_and_refuses_others(decoder: PhotoDecoder, slow: bytes) -> None:
    with decoding(decoder, slow) as (_, answer):
        decoder.close()
        with pytest.raises(BusyError, match="The daemon is stopping"):
            answer.result(WAIT_S)
    with pytest.raises(BusyError, match="The daemon is stopping"):
        decoder.decode(encoded("PNG"), "late")


PARENT = """
import sys
from pathlib import Path
from edge.photos.decoder import PhotoDecoder
decoder = PhotoDecoder()
small, slow = (Path(name).read_bytes() for name in sys.argv[1:])
decoder.decode(small, "small")
print("ready", flush=True)
while True:
    decoder.decode(slow, "slow") if slow else sys.stdin.read()
"""


@pytest.mark.parametrize("decodes", [False, True])
def test_the_child_ends_with_a_daemon_that_is_killed(tmp_path: Path, slow: bytes, *, decodes: bool) -> None:
    (tmp_path / "small").write_bytes(encoded("PNG"))
    (tmp_path / "slow").write_bytes(slow if decodes else b"")
    command = [sys.executable, "-c", PARENT, tmp_path / "small", tmp_path / "slow"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment(), **pipes) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        child = child_of(parent.pid)
        before_s = cpu_s(child)
        if decodes:
            eventually(lambda: cpu_s(child) > before_s + 0.1, "it decodes")
        parent.kill()
    eventually(lambda: not Path(f"/proc/{child}/cmdline").exists(), "the child ends", WAIT_S)


def fails(*arguments: object, **options: object) -> int:
    raise OSError(24, "Too many open files")


@pytest.mark.parametrize("place", ["module.os.memfd_create", "module.socket.socketpair"])
def test_a_photo_for_which_there_are_no_files_is_refused_for_now(
    decoder: PhotoDecoder, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(place.replace("module", module.__name__), fails)
        message = one_sentence(BusyError, lambda: decoder.decode(encoded("PNG"), "it"))
        assert message == "Photos cannot be decoded at present (Too many open files); ask again in a moment."
    assert decoder.decode(encoded("PNG"), "it").shape == (48, 64, 3)


def test_a_child_that_cannot_start_shows_why_on_stderr(
    decoder: PhotoDecoder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "PROGRAM", "import a_library_that_is_missing")
    with pytest.raises(BusyError, match=r"at present \(it has ended with exit code 1\)"):
        decoder.decode(encoded("PNG"), "it")
    assert "a_library_that_is_missing" in capfd.readouterr().err


def noisy_photos() -> dict[str, bytes]:
    """Photos over which libpng, libjpeg and libtiff write to stderr."""
    png, jpeg = encoded("PNG"), bytearray(encoded("JPEG"))
    jpeg[-40:-30] = bytes(10)
    bad_chunk = png_chunk(b"tEXt", b"a\0b")[:-4] + b"\0\0\0\0"
    tiff = bytearray(encoded("TIFF"))
    directory = struct.unpack_from("<I", tiff, 4)[0]
    struct.pack_into("<H", tiff, directory + 2 + 12 * 4, 65000)  # an unknown tag
    return {
        "PNG with a bad checksum": png[:33] + bad_chunk + png[33:],
        "JPEG with bad data": bytes(jpeg),
        "TIFF with an unknown tag": bytes(tiff),
    }


def test_the_libraries_warnings_are_not_printed(decoder: PhotoDecoder, capfd: pytest.CaptureFixture[str]) -> None:
    for name, content in noisy_photos().items():
        with contextlib.suppress(PhotoError):
            decode_photo(content, name)
    assert "libpng warning" in capfd.readouterr().err, "the photos have nothing to warn of"
    for name, content in noisy_photos().items():
        with contextlib.suppress(PhotoError):
            decoder.decode(content, name)
    assert capfd.readouterr() == ("", "")


def test_photos_from_many_threads_are_each_answered(decoder: PhotoDecoder) -> None:
    def pixels(shade: int) -> set[int]:
        content = saved(Image.new("L", (30 + shade, 20), shade), "PNG")
        return set(decoder.decode(content, f"{shade}").ravel().tolist())

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(pixels, range(100))) == [{shade} for shade in range(100)]
    assert len(decoders_of(os.getpid())) == 1
