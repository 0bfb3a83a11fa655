"""A file system that keeps exactly what POSIX promises, and nothing else, when power is lost.

* A file's bytes are durable once `fsync` of that file, called after they were written, returned.
* A name (of a file or a directory, made, replaced or removed) is durable once `fsync` of the
  directory that holds it, called after the change, returned. Nothing else makes it so: not the
  `fsync` of the file, not that of a directory below, no order in which calls were made.

* A rename is one change: until its new name is durable, the file has the old one or the new one, as
  long as nothing was done that makes the old one's removal durable by itself, or its directory's.

Real file systems promise more, each something else. Source: POSIX.1-2024, fsync; Linux fsync(2).
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Final

from tests.crash.strace import Call


_DESCRIPTOR: Final = re.compile(r"-?\w*<([^>]*)>")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WRITES: Final = frozenset(
    {"write", "pwrite64", "writev", "pwritev", "pwritev2", "ftruncate", "fallocate", "splice"}
    | {"copy_file_range", "sendfile"}
)
_OPENS: Final = frozenset({"open", "openat", "creat"})
_SYNCS: Final = frozenset({"fsync", "fdatasync"})
_MAKES: Final = frozenset({"mkdir", "mkdirat"})
_REMOVES: Final = frozenset({"unlink", "unlinkat", "rmdir"})
_UNKNOWN: Final = frozenset(
    {"link", "linkat", "symlink", "symlinkat", "truncate", "sync", "syncfs", "sync_file_range"}
)
_RENAMES: Final = frozenset({"rename", "renameat", "renameat2"})


class StrictDisk:
    """What is on the disk, and what of it would survive.

    Attributes:
        violations: files that got a name for readers before their bytes were durable.
    """

    def __init__(self, root: str, existing: Iterable[str] = (), private: str = "") -> None:
        """Begin with `root` durable, and what exists below it there but not durable.

        Args:
            root: an absolute path.
            existing: absolute paths.
            private: names below this path are seen by nobody but the server.
        """
        self._root: Final = root
        self._private: Final = private
        self._names: Final[set[str]] = set(existing)
        self._unsynced: set[str] = set(existing)
        self._removed: set[str] = set()
        self._written: Final[dict[str, int]] = {}
        self._synced: Final[dict[str, int]] = {}
        self._syncing: Final[dict[int, tuple[int, set[str]]]] = {}
        self._origins: Final[dict[str, str]] = {}
        self._replaced: Final[set[str]] = set()
        self.violations: Final[list[str]] = []

    def apply(self, call: Call) -> None:
        """Let `call` have its effect, if it is one that has any on files."""
        if call.name in _OPENS:
            self._open(call)
        elif call.name in _SYNCS:
            self._sync(call)
        elif call.name in _WRITES:
            self._write(call)
        elif call.name in _UNKNOWN:
            raise NotImplementedError(f"the model does not know {call.name}")
        elif call.succeeded:
            self._change_names(call)

    def _change_names(self, call: Call) -> None:
        if call.name in _RENAMES:
            self._rename(*_paths(call)[-2:])
        elif call.name in _REMOVES:
            self._disappear(_paths(call)[-1])
        elif call.name in _MAKES:
            self._appear(_paths(call)[-1])

    def is_durable(self, path: str) -> bool:
        """Say whether the file at `path` would be there, as it is, after power was lost now."""
        if path not in self._names or self._written.get(path, 0) != self._synced.get(path, 0):
            return False
        return not any(name in self._unsynced for name in self._chain(path))

    def exists(self, path: str) -> bool:
        """Say whether something is at `path` now."""
        return path in self._names

    def survives(self, path: str) -> bool:
        """Say whether the file at `path` would be there, or where it was, or what it replaced."""
        if self.is_durable(path) or path in self._replaced:
            return True
        origin = self._origins.get(path)
        if path not in self._names or origin not in self._removed:
            return False
        *_, parent = [each for each in self._chain(origin) if each != origin][:1] or [self._root]
        return all(each in self._names for each in self._chain(parent))

    def is_durably_gone(self, path: str) -> bool:
        """Say whether nothing would be at `path` after power was lost now."""
        return path not in self._names and not any(
            name in self._removed for name in self._chain(path)
        )

    def _chain(self, path: str) -> Iterator[str]:
        while path != self._root:
            yield path
            path = str(PurePosixPath(path).parent)

    def _is_ours(self, path: str) -> bool:
        return path.startswith(f"{self._root}/")

    def _open(self, call: Call) -> None:
        path = _paths(call)[-1]
        if not call.succeeded or not self._is_ours(path):
            return
        if "O_CREAT" in call.arguments and path not in self._names:
            self._appear(path)
        if "O_TRUNC" in call.arguments:
            self._written[path] = self._written.get(path, 0) + 1

    def _write(self, call: Call) -> None:
        path = _descriptor(call)
        if call.begins and self._is_ours(path):
            self._written[path] = self._written.get(path, 0) + 1

    def _sync(self, call: Call) -> None:
        path = _descriptor(call)
        if call.begins:
            # Changes after this moment may miss it.
            below = {
                name
                for name in self._unsynced | self._removed
                if str(PurePosixPath(name).parent) == path
            }
            self._syncing[call.thread] = self._written.get(path, 0), below
        else:
            generation, below = self._syncing.pop(call.thread)
            if call.succeeded:
                self._synced[path] = generation
                self._unsynced -= below
                self._removed -= below

    def _appear(self, path: str) -> None:
        if self._is_ours(path):
            self._names.add(path)
            self._unsynced.add(path)
            self._removed.discard(path)

    def _disappear(self, path: str) -> None:
        if self._is_ours(path):
            self._names.discard(path)
            self._replaced.discard(path)
            self._unsynced.discard(path)
            self._removed.add(path)
            self._written.pop(path, None)
            self._synced.pop(path, None)

    def _rename(self, source: str, target: str) -> None:
        clean = self._written.get(source, 0) == self._synced.get(source, 0)
        # A durable name stays one, whichever of the two files it leads to; also one whose file is
        # on its way elsewhere: it leads there, or is gone once that other name is durable.
        moving = target in self._removed and target in self._origins.values()
        stays = self.is_durable(target) or moving
        origin = source if self.is_durable(source) else self._origins.pop(source, None)
        if stays:
            self._replaced.add(target)
        origin = origin or self._origins.pop(target, None)
        if origin is not None:
            self._origins[target] = origin
        if not clean and not target.startswith(self._private):
            self.violations.append(target)
        for name in [each for each in self._names if f"{each}/".startswith(f"{source}/")]:
            moved = target + name[len(source) :]
            was_unsynced = name in self._unsynced
            written, synced = self._written.get(name, 0), self._synced.get(name, 0)
            self._disappear(name)
            if name != source:
                self._removed.discard(name)  # its directory took it along
            self._names.add(moved)
            self._removed.discard(moved)
            if was_unsynced or name == source:
                self._unsynced.add(moved)
            self._written[moved], self._synced[moved] = written, synced


def _descriptor(call: Call) -> str:
    match = _DESCRIPTOR.match(call.arguments)
    return match[1] if match else ""


def _paths(call: Call) -> list[str]:
    """Return the paths among a call's arguments; ours are absolute."""
    found = _QUOTED.findall(call.arguments)
    assert found, call
    return found
