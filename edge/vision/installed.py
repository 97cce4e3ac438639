"""The bundles in `models/`: lists, installs, switches and removes them; `current` is the link to the one in use.

A bundle is assembled, or deleted, in a hidden directory on the same file system. It enters or leaves `models/` by one
rename, so that it is there whole or not at all.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Literal

from edge.errors import BundleError, ConfigError, StateError
from edge.settings.defaults import state_directory
from edge.settings.schema import ModelSettings
from edge.vision.bundle import load_bundle
from edge.vision.manifest import MANIFEST
from edge.vision.ownership import refuse_if_others_may_write

CURRENT = "current"
PREVIOUS = "previous"
STALE_S = 86_400.0  # younger hidden directories may belong to a command that still runs
Purpose = Literal["new", "export", "remove"]
_BUNDLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*-[a-z0-9]+-[0-9a-f]{6}")


class Installed:
    """A directory of bundles with the links `current` and `previous`, each switched by one atomic rename.

    Args:
        directory: such as `/var/lib/edge-classifier/models`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def names(self) -> list[str]:
        """The names of the bundles, sorted; only `load_bundle` checks whether they are intact."""
        with state_errors(self.directory, "read", "run with sudo"), suppress(FileNotFoundError):
            # The name first: another user's staging directory cannot be looked into.
            named = [entry for entry in self.directory.iterdir() if _BUNDLE.fullmatch(entry.name)]
            return sorted(entry.name for entry in named if (entry / MANIFEST).is_file())
        return []

    @property
    def current(self) -> str | None:
        """The bundle that the link `current` names; the daemon runs it from its next start on, or already."""
        return self._target(CURRENT)

    @property
    def previous(self) -> str | None:
        """The bundle that was in use before the current one."""
        return self._target(PREVIOUS)

    def before_current(self) -> str:
        """The name of the bundle that `models rollback` goes back to.

        Raises:
            BundleError: there is none.
        """
        previous = self.previous
        if previous is None:
            raise BundleError("There is no model before this one; see `edge-classifier models list`.")
        return previous

    def find(self, name: str) -> Path:
        """The directory of an installed bundle.

        Raises:
            BundleError: there is none of that name.
        """
        if name not in (names := self.names()):
            raise BundleError(f"There is no bundle {name:.80} here; there are: {', '.join(names) or 'none'}.")
        return self.directory / name

    def switch(self, name: str) -> str | None:
        """Point `current` at an installed bundle and `previous` at the one before; returns the one before.

        Raises:
            BundleError: there is none of that name.
            StateError: the links cannot be written.
        """
        with self._locked():
            self.find(name)  # another command may have removed it
            before = self.current
            if before == name:
                return self.previous
            # In this order, so that a kill in between leaves the bundle in use as it was.
            if before is not None:
                self._link(PREVIOUS, before)
            self._link(CURRENT, name)
            return before

    def remove(self, name: str, *, force: bool) -> None:
        """Delete a bundle.

        Raises:
            BundleError: there is none, or a link names it and `force` is not set.
            StateError: it cannot be deleted.
        """
        home = self.find(name)
        with self._locked():
            self.find(name)  # another command may have removed it
            links = [link for link in (CURRENT, PREVIOUS) if self._target(link) == name]
            if links and not force:
                role = "in use" if CURRENT in links else "what `models rollback` goes back to"
                raise BundleError(f"{name} is {role}; use another first, or remove it with --force.")
            with state_errors(home, "removed", "run as a user who may"):
                for link in links:
                    (self.directory / link).unlink()
                staging = self.staging("remove")
                try:
                    home.rename(staging / name)
                finally:
                    shutil.rmtree(staging)

    def prepare(self) -> None:
        """Make the directory, writable by its owner only, or check the one that exists.

        Raises:
            StateError: the directory cannot be made.
            BundleError: other users may write there, so `load_bundle` would refuse its bundles.
        """
        with self._writing():
            for directory in (*reversed(self.directory.parents), self.directory):
                if not directory.exists():
                    directory.mkdir(exist_ok=True)
                    directory.chmod(0o755)  # regardless of the umask
                elif not directory.is_dir():
                    raise StateError(f"{directory} is no directory; name another place for the models.")
            refuse_if_others_may_write(self.directory)

    def staging(self, purpose: Purpose = "new") -> Path:
        """Make a hidden directory on the bundles' file system, for assembling or deleting one.

        Raises:
            StateError: it cannot be made, or root finds no place where the owner of `models/` cannot interfere.
            BundleError: others may write to `models/`.
        """
        if purpose != "remove":
            self.prepare()
        with self._writing():
            place = self._staging_place()
            prefix = "." if place == self.directory else ".edge-classifier-"
            _delete_stale(place, prefix)
            return Path(tempfile.mkdtemp(dir=place, prefix=f"{prefix}{purpose}-"))

    def accept(self, home: Path) -> Path:
        """Move a complete bundle, its modes set, from `staging` into `models/`; returns its new directory.

        If the same bundle is installed already it stays, because it may be in use; a damaged one is replaced.

        Raises:
            BundleError: another bundle has that name.
            StateError: it cannot be written.
        """
        target = self.directory / home.name
        with state_errors(target, "written"):
            for file in home.iterdir():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
            with self._locked():
                try:
                    load_bundle(target)
                except BundleError:  # missing or damaged
                    if target.exists():
                        target.rename(home.parent / "damaged")  # deleted with the staging directory
                    home.rename(target)
                else:
                    if (target / MANIFEST).read_bytes() != (home / MANIFEST).read_bytes():
                        raise BundleError(f"There is another bundle called {target.name}; remove that one first.")
        return target

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold a lock, so that no other process installs, switches or removes a bundle."""
        with state_errors(self.directory, "read", "run with sudo"):
            directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def _writing(self) -> AbstractContextManager[None]:
        return state_errors(self.directory, "written", "run as a user who may")

    def _staging_place(self) -> Path:
        """`models/` itself; for root the nearest directory above it in which no other user can put links in the way."""
        models = self.directory
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

    def _target(self, link: str) -> str | None:
        path = self.directory / link
        if not path.is_symlink():
            return None
        name = Path(os.path.realpath(path)).name
        return name if (self.directory / name).is_dir() and _BUNDLE.fullmatch(name) else None

    def _link(self, link: str, name: str) -> None:
        fresh = self.directory / f".{link}-new"
        with state_errors(self.directory / link, "switched", "run as a user who may, with sudo"):
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(name)
            fresh.replace(self.directory / link)


@contextmanager
def state_errors(path: Path, failed: str, remedy: str = "") -> Iterator[None]:
    """Raise each OSError as a StateError: `path` cannot be `failed`; `remedy`, or the one for a full or other disk."""
    try:
        yield
    except OSError as error:
        if not remedy:
            remedy = "run as a user who may write there, and on a disk that can be written"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                remedy = "free some space and try again"
        raise StateError(f"{path} cannot be {failed} ({error.strerror}); {remedy}.") from error


def _delete_stale(place: Path, prefix: str) -> None:
    """Delete the hidden directories that killed commands left."""
    hidden = re.compile(re.escape(prefix) + r"(new|export|remove)-[a-z0-9_]{8}")
    for entry in place.iterdir():
        if hidden.fullmatch(entry.name):
            with suppress(OSError):  # deleted in the meantime, or another user's
                if time.time() - entry.lstat().st_mtime > STALE_S:
                    shutil.rmtree(entry)


def set_modes(home: Path) -> None:
    """Let every user read a bundle, and only its owner write to it, regardless of the umask."""
    for file in home.iterdir():
        file.chmod(0o644)
    home.chmod(0o755)


def installed_bundles(settings: ModelSettings) -> Installed:
    """The bundles next to the link `current` if `model.bundle` names it, else those of the state directory."""
    bundle = settings.bundle
    return Installed(bundle.parent if bundle.name == CURRENT else state_directory() / "models")


def switchable_bundles(settings: ModelSettings) -> Installed:
    """The bundles next to the link `current`, which `model.bundle` has to name.

    Raises:
        ConfigError: it names a fixed bundle.
    """
    if settings.bundle.name != CURRENT:
        raise ConfigError(
            f"model.bundle in the config names {settings.bundle} for good; remove that line, so that it follows the"
            " link current, which this command switches."
        )
    return Installed(settings.bundle.parent)
