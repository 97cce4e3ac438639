"""Tests that JSON that strangers send takes little time and memory, whatever is in it."""

import time

import pytest

from edge.interfaces.json_document import parse_json

BYTES = 12 << 20  # the largest body that the page takes
WITHIN_S = 1.0  # mostly 0.1 s; without the limit some of these take 6 s


@pytest.mark.parametrize(
    "piece", [b'"0":0,', b"0,", b"[],", b"[", b'{"a":', b"{},", b",", b":"], ids=lambda piece: piece.decode()
)
def test_a_document_of_many_values_is_refused_at_once(piece: bytes) -> None:
    opening = b"{" if piece.startswith(b'"') else b"["
    content = opening + piece * (BYTES // len(piece))
    began = time.process_time()
    with pytest.raises(ValueError, match=r"more than 1000 values$"):
        parse_json(content)
    assert time.process_time() - began < WITHIN_S


@pytest.mark.parametrize("piece", [b"A", b"\\n", b"\\u0041", b"\\/", "é".encode()], ids=lambda piece: piece.decode())
def test_a_long_text_is_read_in_little_time(piece: bytes) -> None:
    content = b'{"image":"' + piece * (BYTES // len(piece)) + b'"}'
    began = time.process_time()
    assert len(parse_json(content)["image"]) == BYTES // len(piece)
    assert time.process_time() - began < WITHIN_S


@pytest.mark.parametrize("content", [b"", b"{", b"0." + b"9" * BYTES + b"x", b"9" * BYTES, b"\xff\xfe\x00", b"[" * 999])
def test_what_is_not_json_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is json's own
        parse_json(content)
