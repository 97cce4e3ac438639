"""Refuses bundles that other users may change: TorchScript is code, and runs with the rights of the process."""

from __future__ import annotations

import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

from edge.errors import BundleError
from edge.settings.defaults import SYSTEM_STATE, state_directory


def refuse_if_others_may_write(path: Path, *, given: bool = False, opened: os.stat_result | None = None) -> None:
    """Refuse a file or directory that anyone but root, this user and the daemon's user may write to.

    A directory with the sticky bit, such as /tmp, may have any mode: users cannot rename each other's files there.

    Args:
        path: exists.
        given: the user named the path on the command line, which implies trust in its owner and group; it is refused
            only if every user may write to it.
        opened: the status of the open file, which cannot be replaced before it is read; default: that of `path`.

    Raises:
        BundleError: others may write to it.
        OSError: it cannot be looked at.
    """
    status = opened or path.stat()
    shared = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_mode & (stat.S_IWOTH if given else stat.S_IWGRP | stat.S_IWOTH) and not shared:
        raise BundleError(f"More than its owner may write to {path}, and a model is code; run `chmod go-w {path}`.")
    if not given and status.st_uid not in _trusted_owners():
        name = str(status.st_uid)
        with suppress(KeyError):
            name = pwd.getpwuid(status.st_uid).pw_name
        raise BundleError(
            f"{path} belongs to the user {name}, who is neither root, nor you, nor the daemon's user, and"
            " a model is code; if you trust it, install a copy with `edge-classifier models add`."
        )


def _trusted_owners() -> set[int]:
    """root, this user, and the daemon's user, who owns the state directory."""
    owners = {0, os.geteuid()}
    for state in (state_directory(), SYSTEM_STATE):
        with suppress(OSError, BundleError):
            refuse_if_others_may_write(state.parent, given=True)  # otherwise any user could have made `state`
            owners.add(state.stat().st_uid)
    return owners
