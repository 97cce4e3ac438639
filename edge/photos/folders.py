"""Folders of photos and lists of labelled photos."""

from __future__ import annotations

import csv
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

from edge.errors import PhotoError
from edge.photos.header import is_photo
from edge.photos.kinds import HEAD_BYTES
from edge.printable import escaped
from edge.text_file import NotTextError, read_text

#: A file in a folder counts as a photo if it ends with one of these, in any case. Some are not read everywhere, and
#: are then reported by their name; without an extension, a file counts as what it begins like.
PHOTO_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff",
    ".gif", ".avif", ".heic", ".heif", ".hif", ".jxl", ".jp2",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class LabelledPhoto:
    """A photo and the index of the class that it shows."""

    file: Path
    index: int


def photos_in(folder: Path) -> list[Path]:
    """The photos in a folder, not in those below it, in the order of their names; hidden files are left out.

    Raises:
        PhotoError: there is no such folder, or no photo in it.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.path for entry in entries if _is_photo(entry))
    except OSError as error:
        raise PhotoError(f"{escaped(folder)} cannot be read: {error.strerror}; name a folder of photos.") from error
    if not names:
        raise PhotoError(f"{escaped(folder)} holds no photos; put some JPEGs or PNGs into it.")
    return [Path(name) for name in names]


def _is_photo(entry: os.DirEntry[str]) -> bool:
    _, dot, extension = entry.name.rpartition(".")
    suffix = dot and f".{extension.lower()}"
    if entry.name.startswith(".") or not (suffix in PHOTO_SUFFIXES or not suffix):
        return False
    try:
        if not entry.is_file():  # a folder, or a pipe or a device, which would block
            return bool(suffix) and entry.is_symlink() and not Path(entry.path).exists()  # reported as unreadable
        if suffix:
            return True
        with Path(entry.path).open("rb") as file:
            return is_photo(file.read(HEAD_BYTES))
    except OSError:
        return bool(suffix)


def read_labels(table: Path, classes: int) -> list[LabelledPhoto]:
    """The rows of a CSV with the columns `file` (relative to the CSV) and `index`.

    Raises:
        PhotoError: it cannot be read, lacks a column or has an index that is not a class.
    """
    try:
        rows = csv.DictReader(io.StringIO(read_text(table)))
        if not {"file", "index"} <= set(rows.fieldnames or ()):
            raise PhotoError(f"{table} lacks the columns file and index; write `file,index` into its first line.")
        photos = []
        for row in rows:
            index = (row["index"] or "").strip()
            if not row["file"] or not re.fullmatch("[0-9]{1,9}", index) or int(index) >= classes:
                raise PhotoError(
                    f"{table}, line {rows.line_num}: needs a file and a class index from 0 to {classes - 1}."
                )
            photos.append(LabelledPhoto(table.parent / row["file"], int(index)))
    except NotTextError as error:
        raise PhotoError(f"{table} cannot be read as CSV, because it {error}.") from error
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise PhotoError(f"{table} cannot be read as CSV: {reason}.") from error
    if not photos:
        raise PhotoError(f"{table} names no photos; add one line `file,index` for each.")
    return photos
