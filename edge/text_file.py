"""Reads the text that people write: settings, passwords, tokens, class names, lists of photos.

Editors and shells save text in several ways: with a byte order mark, as UTF-16 (Windows' Notepad and PowerShell), with
Windows' line ends. All of these mean the same text.
"""

from __future__ import annotations

import codecs
import io
from pathlib import Path

MAX_BYTES = 64 * 1024 * 1024  # a mistaken name may lead to a video
# The mark of UTF-32 begins with that of UTF-16, so it is first.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class NotTextError(ValueError):
    """A file's bytes are not text; the message ends a sentence that begins with the file's name."""


def read_text(file: Path) -> str:
    r"""The file's text without a byte order mark, with `\n` at the end of each line.

    Raises:
        OSError: the file cannot be read.
        NotTextError: it is not text, or is in an encoding that its bytes do not reveal.
    """
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise NotTextError(f"is larger than {MAX_BYTES >> 20} MiB and therefore no text of this kind")
    marked = (encoding for mark, encoding in MARKS if content.startswith(mark) and content != mark)
    encoding = next(marked, "utf-8-sig")  # which may have a mark or not
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        kind = encoding.removesuffix("-sig").upper()
        line = content.count(b"\n", 0, error.start) + 1
        raise NotTextError(f"is not {kind} text (line {line}, byte {error.start}); save it as UTF-8") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise NotTextError(
            f"has a zero byte in line {line}, as damaged files have; write it again and save it as UTF-8"
        )
    return io.StringIO(text, newline=None).read()
