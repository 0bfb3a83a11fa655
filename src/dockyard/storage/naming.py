"""Names that survive loss of power, in the strictest reading of POSIX."""

import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Final

from dockyard.storage import files


KNOWN_DIRECTORIES: Final = 8192
"""Directories remembered as durably named: about 1 MB. Forgetting costs one more sync."""


class DurableNames:
    """Gives files below a root their names, and knows which directories are durably named.

    Blocking: to be used in a thread.
    """

    def __init__(self, root: str) -> None:
        self._root: Final = root
        self._named: Final[set[str]] = set()
        self._root_is_named = False

    def make(self, paths: Iterable[str]) -> Sequence[str]:
        """Make the directories of `paths` that are not known to be there; return all of them."""
        directories = list({os.path.dirname(f"{self._root}/{path}") for path in paths})  # noqa: PTH120 -- hot
        for directory in directories:
            if directory not in self._named and files.make_directories(directory):
                self.forget(directory)
        return directories

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
        fresh: list[str] = []
        while directory != self._root and directory not in self._named:
            fresh.append(directory)
            directory = os.path.dirname(directory)  # noqa: PTH120 -- hot
        for name in reversed(fresh):
            parent = os.path.dirname(name)  # noqa: PTH120 -- hot
            files.sync_directory(parent)
            self._named.add(name)
            self._named.update(each for each in made if os.path.dirname(each) == parent)  # noqa: PTH120 -- hot

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
            self._named.discard(directory)
            directory = os.path.dirname(directory)  # noqa: PTH120 -- hot
