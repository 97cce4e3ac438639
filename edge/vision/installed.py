"""The bundles in `models/`: lists, installs, switches and removes them; `current` is the link to the one in use."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import BundleError, ConfigError, StateError
from edge.settings.defaults import state_directory
from edge.settings.schema import ModelSettings
from edge.vision.bundle import MANIFEST, load_bundle
from edge.vision.ownership import refuse_if_others_may_write
from edge.vision.staging import Purpose, new_staging_directory

CURRENT = "current"
PREVIOUS = "previous"
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
        try:
            # The name first: another user's staging directory cannot be looked into.
            named = [entry for entry in self.directory.iterdir() if _BUNDLE.fullmatch(entry.name)]
            return sorted(entry.name for entry in named if (entry / MANIFEST).is_file())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StateError(f"{self.directory} cannot be read ({error.strerror}); run with sudo.") from error

    @property
    def current(self) -> str | None:
        """The bundle that the link `current` names: the daemon runs it, at the latest from its next start on."""
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
            try:
                for link in links:
                    (self.directory / link).unlink()
                grave = self.staging("remove")
                try:
                    home.rename(grave / name)  # first, so that a bundle is there whole or not at all
                finally:
                    shutil.rmtree(grave)
            except OSError as error:
                raise StateError(f"{home} cannot be removed ({error.strerror}); run as a user who may.") from error

    def prepare(self) -> None:
        """Make the directory, writable by its owner only, or check the one that exists.

        Raises:
            StateError: the directory cannot be made.
            BundleError: other users may write there, so `load_bundle` would refuse its bundles.
        """
        try:
            for directory in (*reversed(self.directory.parents), self.directory):
                if not directory.exists():
                    directory.mkdir(exist_ok=True)
                    directory.chmod(0o755)  # regardless of the umask
                elif not directory.is_dir():
                    raise StateError(f"{directory} is no directory; name another place for the models.")
            refuse_if_others_may_write(self.directory)
        except OSError as error:
            raise self._unwritable(error) from error

    def staging(self, purpose: Purpose = "new") -> Path:
        """A new hidden directory on the bundles' file system, for assembling or deleting one.

        Raises:
            StateError: the directory cannot be made or written.
            BundleError: others may write there.
        """
        if purpose != "remove":
            self.prepare()
        try:
            return new_staging_directory(self.directory, purpose)
        except OSError as error:
            raise self._unwritable(error) from error

    def accept(self, home: Path) -> Path:
        """Move a complete bundle, its modes set, from `staging` into `models/`; returns its new directory.

        If the same bundle is installed already it stays, because it may be in use; a damaged one is replaced.

        Raises:
            BundleError: another bundle has that name.
            StateError: it cannot be written.
        """
        target = self.directory / home.name
        try:
            for file in home.iterdir():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
            with self._locked():
                if self._is_intact(target):
                    if (target / MANIFEST).read_bytes() != (home / MANIFEST).read_bytes():
                        raise BundleError(f"There is another bundle called {target.name}; remove that one first.")
                    return target
                if target.exists():
                    target.rename(home.parent / "damaged")  # deleted with the staging directory
                home.rename(target)
        except OSError as error:
            raise StateError(f"{target} cannot be written ({error.strerror}); {remedy(error)}.") from error
        return target

    @staticmethod
    def _is_intact(home: Path) -> bool:
        try:
            load_bundle(home)
        except BundleError:
            return False
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold a lock, so that no other process installs, switches or removes a bundle."""
        try:
            directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise StateError(f"{self.directory} cannot be read ({error.strerror}); run with sudo.") from error
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def _unwritable(self, error: OSError) -> StateError:
        return StateError(f"{self.directory} cannot be written ({error.strerror}); run as a user who may.")

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
    """The remedy for a directory that could not be written, as the end of a sentence."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space and try again"
    return "run as a user who may write there, and on a disk that can be written"


def set_modes(home: Path) -> None:
    """Let every user read a bundle, and only its owner write to it, regardless of the umask."""
    for file in home.iterdir():
        file.chmod(0o644)
    home.chmod(0o755)


def installed_bundles(settings: ModelSettings) -> Installed:
    """The bundles beside the link that `model.bundle` names, else those of the state directory."""
    bundle = settings.bundle
    return Installed(bundle.parent if bundle.name == CURRENT else state_directory() / "models")


def switchable_bundles(settings: ModelSettings) -> Installed:
    """As `installed_bundles`, if `model.bundle` names the link `current`.

    Raises:
        ConfigError: it names a fixed bundle.
    """
    if settings.bundle.name != CURRENT:
        raise ConfigError(
            f"model.bundle in the config names {settings.bundle} for good; remove that line, so that it follows the"
            " link current, which this command switches."
        )
    return installed_bundles(settings)
