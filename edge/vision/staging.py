"""Hidden directories in which a bundle is assembled, or one that is removed is deleted.

A bundle enters or leaves `models/` by one rename, so that it is there whole or not at all; both directories are
therefore on the same file system.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

from edge.errors import StateError

Purpose = Literal["new", "export", "remove"]
STALE_S = 86_400.0


def new_staging_directory(models: Path, purpose: Purpose) -> Path:
    """Make a hidden directory for a bundle of `models`, and delete those that killed commands left.

    Raises:
        StateError: root finds no place where the owner of `models` cannot interfere.
        OSError: the directory cannot be made.
    """
    place = _place(models)
    prefix = "." if place == models else ".edge-classifier-"
    _delete_stale(place, prefix)
    return Path(tempfile.mkdtemp(dir=place, prefix=f"{prefix}{purpose}-"))


def _place(models: Path) -> Path:
    """`models` itself; for root the nearest directory above it in which no other user can put links in the way."""
    if os.geteuid() != 0:
        return models
    home = Path(os.path.realpath(models))
    safe: Path | None = None
    for place in (*reversed(home.parents), home):
        status = place.lstat()
        writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
        if status.st_uid != 0 or writable:
            break
        safe = place
    if safe in (None, home):  # None: root of a user namespace only, where / belongs to another user
        return models
    if safe.stat().st_dev != home.stat().st_dev:
        raise StateError(
            f"{home} belongs to another user and is a file system of its own, where root writes nothing; run this"
            f" as its owner: sudo -u '#{home.stat().st_uid}'."
        )
    return safe


def _delete_stale(place: Path, prefix: str) -> None:
    """Delete the hidden directories of killed commands.

    Only those older than `STALE_S`: a younger one may belong to a command that still runs.
    """
    staging = re.compile(re.escape(prefix) + r"(new|export|remove)-[a-z0-9_]{8}")
    for entry in place.iterdir():
        if staging.fullmatch(entry.name):
            with suppress(OSError):  # deleted in the meantime, or another user's
                if time.time() - entry.lstat().st_mtime > STALE_S:
                    shutil.rmtree(entry)
