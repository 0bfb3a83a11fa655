"""Names that survive loss of power, in the strictest reading of POSIX."""

import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

from dockyard.storage import files


KNOWN_DIRECTORIES: Final = 8192
"""Directories remembered as durably named: about 1 MB. Forgetting costs one more sync."""

_Identity: TypeAlias = tuple[int, int]
"""What tells a directory from one that has its name later: inode, and when that changed last."""


class DurableNames:
    """Gives files below a root their names, and knows which directories are durably named.

    A directory is known by its inode and the time of its last change: one that another process
    removed and made again meanwhile may have a name that is not durable yet, and so may those above
    it. In which a name was made since, it is not known any more either; syncing the directory above
    it, which has not changed, costs next to nothing.

    Blocking: to be used in a thread.
    """

    def __init__(self, root: str) -> None:
        self._root: Final = root
        self._named: Final[dict[str, _Identity]] = {}
        self._root_is_named = False

    def make(self, paths: Iterable[str]) -> Sequence[str]:
        """Make the directories of `paths` that are not known to be there; return all of them."""
        directories = list({os.path.dirname(f"{self._root}/{path}") for path in paths})  # noqa: PTH120 -- hot
        for directory in directories:
            if directory not in self._named:
                self._make(directory)
        return directories

    def _make(self, directory: str) -> None:
        """Make a directory, and those above it, as far as nobody removes them at the same moment.

        What is made has no durable name yet, whatever was known of it. What was there before keeps
        its own: syncing all that is above each new directory cost more than the rest of a push.
        """
        for _ in range(files.MAKE_TRIES):
            with suppress(FileNotFoundError):  # what is above it is not there, or not any more
                self._make_one(directory)
                return
            self._make_above(directory)

    def _make_above(self, directory: str) -> None:
        """Make the directory above another, and those above that, once."""
        above = os.path.dirname(directory)  # noqa: PTH120 -- hot
        if above == self._root:
            os.makedirs(above, exist_ok=True)  # noqa: PTH103 -- plain strings throughout
            return
        with suppress(FileNotFoundError):
            self._make_one(above)
            return
        self._make_above(above)
        with suppress(FileNotFoundError):  # removed while we were looking
            self._make_one(above)

    def _make_one(self, directory: str) -> None:
        with suppress(FileExistsError):
            os.mkdir(directory)  # noqa: PTH102 -- hot
            self._named.pop(directory, None)

    def rename(self, source: str, path: str) -> None:
        """Give the synced file `source` its name."""
        target = f"{self._root}/{path}"
        directory = os.path.dirname(target)  # noqa: PTH120 -- hot
        for attempt in range(files.MAKE_TRIES):  # pragma: no branch -- the last try raises
            try:
                os.replace(source, target)  # noqa: PTH105 -- hot
                break
            except FileNotFoundError:
                if attempt == files.MAKE_TRIES - 1 or not os.path.lexists(source):
                    raise
                self.forget(directory)
                files.make_directories(directory)

    def sync(self, path: str, made: Collection[str] = ()) -> None:
        """Make the name of `path` durable, in the strictest reading of POSIX.

        Of the directories `made`, which are there, it is known afterwards which got theirs as well.
        """
        directory = os.path.dirname(f"{self._root}/{path}")  # noqa: PTH120 -- hot
        try:
            self._sync_names(directory, made)
            files.sync_directory(directory)
        except FileNotFoundError:
            self.forget(directory)
            raise

    def _sync_names(self, directory: str, made: Collection[str]) -> None:
        """Make the names of `directory` and the directories above it durable.

        Also of those another process made, which may not have synced them yet; once each.
        """
        if not self._root_is_named:
            self._sync_root()
        if len(self._named) > KNOWN_DIRECTORIES:
            self._named.clear()
        fresh: list[tuple[str, _Identity]] = []
        while directory != self._root:
            identity = _identity(directory)
            if self._named.get(directory) != identity:
                fresh.append((directory, identity))
            directory = os.path.dirname(directory)  # noqa: PTH120 -- hot
        for name, identity in reversed(fresh):
            parent = os.path.dirname(name)  # noqa: PTH120 -- hot
            # Looked at before: what takes their place meanwhile is not what is synced.
            beside = _identities(each for each in made if os.path.dirname(each) == parent)  # noqa: PTH120 -- hot
            files.sync_directory(parent)
            self._named.update(beside)
            self._named[name] = identity

    def _sync_root(self) -> None:
        """Make the root's own name durable, and the names above it up to where it is mounted."""
        directory = os.path.realpath(self._root)
        while not os.path.ismount(directory):
            directory = os.path.dirname(directory)  # noqa: PTH120 -- plain strings throughout
            with suppress(PermissionError):  # not ours to read, so not made by us
                files.sync_directory(directory)
        self._root_is_named = True

    def forget(self, directory: str) -> None:
        """Take a directory, and those above it, for not durably named any more."""
        while directory != self._root:
            self._named.pop(directory, None)
            directory = os.path.dirname(directory)  # noqa: PTH120 -- hot


def _identities(directories: Iterable[str]) -> dict[str, _Identity]:
    found: dict[str, _Identity] = {}
    for directory in directories:
        with suppress(FileNotFoundError):  # removed since
            found[directory] = _identity(directory)
    return found


def _identity(directory: str) -> _Identity:
    status = os.stat(directory)  # noqa: PTH116 -- hot
    return status.st_ino, status.st_ctime_ns
