"""The bundles in `models/`: which there are, which is in use, and which was before it."""

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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from edge.errors import BundleError, ConfigError, StateError
from edge.settings.defaults import state_directory
from edge.settings.schema import ModelSettings
from edge.vision.bundle import MANIFEST, load_bundle
from edge.vision.ownership import refuse_if_others_may_write

CURRENT = "current"
PREVIOUS = "previous"
_BUNDLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*-[a-z0-9]+-[0-9a-f]{6}")

Purpose = Literal["new", "export", "remove"]
STALE_S = 86_400.0


class Installed:
    """A directory of bundles with the links `current` and `previous`, each switched in one atomic step.

    Args:
        directory: such as `/var/lib/edge-classifier/models`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def names(self) -> list[str]:
        """The bundles, by name; whether they are sound only `load_bundle` tells."""
        try:
            # By name first: into another user's half-made bundle one may not look.
            named = [entry for entry in self.directory.iterdir() if _BUNDLE.fullmatch(entry.name)]
            return sorted(entry.name for entry in named if (entry / MANIFEST).is_file())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StateError(f"{self.directory} cannot be read ({error.strerror}); run with sudo.") from error

    @property
    def current(self) -> str | None:
        """The bundle that `current` names; it runs from the next start on, if not already."""
        return self._target(CURRENT)

    @property
    def previous(self) -> str | None:
        """The bundle that was in use before."""
        return self._target(PREVIOUS)

    def find(self, name: str) -> Path:
        """The directory of an installed bundle.

        Raises:
            BundleError: there is none of that name.
        """
        if name not in (names := self.names()):
            raise BundleError(f"There is no bundle {name:.80} here; there are: {', '.join(names) or 'none'}.")
        return self.directory / name

    def switch(self, name: str) -> str | None:
        """Point `current` at an installed bundle; returns the one before, which `previous` names from now on.

        Raises:
            BundleError: there is none of that name.
            StateError: the links cannot be written.
        """
        with self._alone():
            self.find(name)  # another command may have removed it meanwhile
            before = self.current
            if before == name:
                return self.previous
            # In this order: ended in between, `previous` names the bundle in use, and nothing is in use that was not.
            if before is not None:
                self._link(PREVIOUS, before)
            self._link(CURRENT, name)
            return before

    def remove(self, name: str, *, force: bool) -> None:
        """Delete a bundle.

        Raises:
            BundleError: there is none, or it is in use or was before, and `force` is not set.
            StateError: it cannot be deleted.
        """
        home = self.find(name)
        with self._alone():
            self.find(name)  # another command may have removed it meanwhile
            links = [link for link in (CURRENT, PREVIOUS) if self._target(link) == name]
            if links and not force:
                role = "in use" if CURRENT in links else "what `models rollback` goes back to"
                raise BundleError(f"{name} is {role}; use another first, or remove it with --force.")
            try:
                for link in links:
                    (self.directory / link).unlink()
                grave = self.staging("remove")
                try:
                    home.rename(grave / name)  # first: a bundle is there whole or not at all
                finally:
                    shutil.rmtree(grave)
            except OSError as error:
                raise StateError(f"{home} cannot be removed ({error.strerror}); run as a user who may.") from error

    def prepare(self) -> None:
        """Make the directory, which only its owner may write to; one that is there already is looked at.

        Raises:
            StateError: the directory cannot be made.
            BundleError: others may write there, so what is put there would not be loaded.
        """
        try:
            for directory in (*reversed(self.directory.parents), self.directory):
                if not directory.exists():
                    directory.mkdir(exist_ok=True)
                    directory.chmod(0o755)  # whatever the umask is
                elif not directory.is_dir():
                    raise StateError(f"{directory} is no directory; name another place for the models.")
            refuse_if_others_may_write([self.directory])
        except OSError as error:
            raise StateError(
                f"{self.directory} cannot be written ({error.strerror}); run as a user who may."
            ) from error

    def staging(self, purpose: Purpose = "new") -> Path:
        """A new hidden directory on the bundles' file system, where one is put together before it appears.

        Raises:
            StateError: the directory cannot be made or written.
            BundleError: others may write there.
        """
        if purpose != "remove":
            self.prepare()
        try:
            place = self._staging_place()
            prefix = "." if place == self.directory else ".edge-classifier-"
            _sweep(place, prefix)
            return Path(tempfile.mkdtemp(dir=place, prefix=f"{prefix}{purpose}-"))
        except OSError as error:
            raise StateError(
                f"{self.directory} cannot be written ({error.strerror}); run as a user who may."
            ) from error

    def accept(self, home: Path) -> Path:
        """Move a complete bundle from `staging`, its modes set, to where it belongs; returns its directory.

        The same bundle that is there already stays, because it may be in use; a damaged one is replaced.

        Raises:
            BundleError: there is another bundle of that name.
            StateError: it cannot be written.
        """
        target = self.directory / home.name
        try:
            for file in home.iterdir():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
            with self._alone():
                if self._is_sound(target):
                    if (target / MANIFEST).read_bytes() != (home / MANIFEST).read_bytes():
                        raise BundleError(f"There is another bundle called {target.name}; remove that one first.")
                    return target
                if target.exists():
                    target.rename(home.parent / "damaged")  # goes with the staging directory
                home.rename(target)
        except OSError as error:
            raise StateError(f"{target} cannot be written ({error.strerror}); {remedy(error)}.") from error
        return target

    @staticmethod
    def _is_sound(home: Path) -> bool:
        try:
            load_bundle(home)
        except BundleError:
            return False
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process accepts a bundle, switches or removes one meanwhile."""
        try:
            directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise StateError(f"{self.directory} cannot be read ({error.strerror}); run with sudo.") from error
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def _staging_place(self) -> Path:
        """Beside the bundles; for root, where others may write there, above that: they could put links in its way."""
        if os.geteuid() != 0:
            return self.directory
        home = Path(os.path.realpath(self.directory))
        safe: Path | None = None
        for place in (*reversed(home.parents), home):
            status = place.lstat()
            writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
            if status.st_uid != 0 or writable:
                break
            safe = place
        if safe in (None, home):  # None: this root is not the machine's
            return self.directory
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
        try:
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(name)
            fresh.replace(self.directory / link)
        except OSError as error:
            raise StateError(
                f"{self.directory / link} cannot be switched ({error.strerror}); run as a user who may, with sudo."
            ) from error


def remedy(error: OSError) -> str:
    """What to do about a directory that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space and try again"
    return "run as a user who may write there, and on a disk that can be written"


def set_modes(home: Path) -> None:
    """Every user may classify with a bundle, and its owner alone may write to it, whatever the umask is."""
    for file in home.iterdir():
        file.chmod(0o644)
    home.chmod(0o755)


def _sweep(place: Path, prefix: str) -> None:
    """Delete the hidden directories of killed commands.

    Only those older than `STALE_S`: a younger one may belong to a command that still runs.
    """
    half_done = re.compile(re.escape(prefix) + r"(new|export|remove)-[a-z0-9_]{8}")
    for entry in place.iterdir():
        if half_done.fullmatch(entry.name):
            with suppress(OSError):  # gone meanwhile, or another user's
                if time.time() - entry.lstat().st_mtime > STALE_S:
                    shutil.rmtree(entry)


def installed_bundles(settings: ModelSettings) -> Installed:
    """The directory of bundles that `model.bundle` belongs to, else the state directory's."""
    bundle = settings.bundle
    return Installed(bundle.parent if bundle.name == CURRENT else state_directory() / "models")


def switchable_bundles(settings: ModelSettings) -> Installed:
    """The same where `model.bundle` follows the link `current`.

    Raises:
        ConfigError: it names one bundle for good.
    """
    if settings.bundle.name != CURRENT:
        raise ConfigError(
            f"model.bundle in the config names {settings.bundle} for good; remove that line, so that it follows the"
            " link current, which this command switches."
        )
    return installed_bundles(settings)
