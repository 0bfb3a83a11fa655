"""Objects on their way to their places, in the `filesystem` driver."""

import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from dockyard.storage import files
from dockyard.storage.naming import DurableNames


KNOWN_OBJECTS: Final = 8192
"""Objects remembered as durable: under 3 MB. Forgetting one costs a sync when it is put again."""

SMALL: Final = 64 << 10
"""Bytes of an object that is compared without a thread: some ten microseconds of reading."""

FRESH: Final = 1.0
"""Seconds for which an object that is in place counts as written just now: see `Storage.put`."""

_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


_Identity: TypeAlias = tuple[int, int]
"""What tells a file from one that has its name later: its inode, and when that changed last, which
no program can choose."""


@dataclass(frozen=True, slots=True)
class _Written:
    """A file on its way: where it is, and the descriptor that it is written by."""

    path: str
    descriptor: int


class Placing:
    """Puts objects into their places, several for the cost of a few.

    What is in its place already is not written again: the manifest that is pushed under another tag
    is there, and the link to it. It must be known to be durable for that: whoever wrote it may not
    have synced it. So what was synced here is remembered, as long as it is the same file.

    Args:
        root: the directory of the tree.
        names: gives files their names.
        temporary: makes the path of a file on its way.
    """

    def __init__(self, root: str, names: DurableNames, temporary: Callable[[], str]) -> None:
        self._root: Final = root
        self._names: Final = names
        self._temporary: Final = temporary
        self._durable: Final[OrderedDict[str, _Identity]] = OrderedDict()

    def is_in_place(self, path: str, content: bytes) -> bool:
        """Return whether the object at `path` is `content`, and durable.

        To be asked in the event loop: what would take a while, or need a sync, is not in place.
        """
        return path in self._durable and len(content) <= SMALL and self._keep(path, content)

    def put_all(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """See `Storage.put_all`. Blocking."""
        kept = [each for each in objects if self._keep(*each, sync=True)]
        if len(kept) < len(objects):  # then all are written now
            kept = [each for each in kept if self._keep(*each, sync=True, touch=True)]
        absent = [each for each in objects if each not in kept]
        made = self._names.make([path for path, _ in absent])
        written: list[_Written] = []
        try:
            for _, content in absent:
                self._write(content, written)
            for path, _ in absent:
                identity = self._place(written, path)
                self._settle(path, made, identity)
        finally:
            _discard(written)

    def publish(self, source: str, target: str, ahead: Sequence[tuple[str, bytes]]) -> None:
        """See `Storage.publish`. Blocking.

        The names are given one after the other and made durable together: nothing was promised yet,
        and neither does harm without the other.
        """
        full = f"{self._root}/{source}"
        absent = [each for each in ahead if not self._keep(*each, sync=True)]
        written: list[_Written] = []
        try:
            for _, content in absent:
                self._write(content, written)
            _sync_whole(full)
            made = self._names.make([*(path for path, _ in absent), target])
            placed = [(path, self._place(written, path)) for path, _ in absent]
            self._names.rename(full, target)
        finally:
            _discard(written)
        for path, identity in placed:
            self._settle(path, made, identity)
        self._settle(target, made)

    def _place(self, written: list[_Written], path: str) -> _Identity:
        """Give the first of the files on their way its name; return which file it is then."""
        self._names.rename(written[0].path, path)
        descriptor = written.pop(0).descriptor
        try:
            return _identity(os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def _settle(self, path: str, made: Sequence[str], identity: _Identity | None = None) -> None:
        """Make the name of a file durable; of a small one that is remembered."""
        try:
            self._names.sync(path, made)
        except FileNotFoundError:  # someone moved it on since, and synced that name
            return
        if identity is not None:
            self._remember(path, identity)

    def _write(self, content: bytes, written: list[_Written]) -> None:
        """Write a file on its way, and sync it; add it to `written` as soon as it is there."""
        path = self._temporary()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o666)
        written.append(_Written(path, descriptor))
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)

    def _keep(self, path: str, content: bytes, *, sync: bool = False, touch: bool = False) -> bool:
        """Return whether the object at `path` is `content` already, and durable.

        If it is, it counts as written now. If it is not known to be durable, it is synced, or with
        `sync` false taken for absent. What can't be read, or touched, is absent too.

        Unless `touch`, what is `FRESH` keeps its time: another worker, to which that would say that
        the file is not the one it synced, would sync it again, and touch it in turn.
        """
        try:
            descriptor = os.open(f"{self._root}/{path}", _READ)
        except OSError:
            self._durable.pop(path, None)
            return False
        try:
            if not _holds(descriptor, content):
                return False
            status = os.fstat(descriptor)
            if self._durable.get(path) != _identity(status):
                if not sync:
                    return False
                os.fsync(descriptor)
                self._names.sync(path)
            if touch or abs(time.time() - status.st_mtime) > FRESH:
                os.utime(descriptor)
                status = os.fstat(descriptor)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        self._remember(path, _identity(status))
        return True

    def _remember(self, path: str, identity: _Identity) -> None:
        self._durable[path] = identity
        if len(self._durable) > KNOWN_OBJECTS:
            with suppress(KeyError):  # another thread was first
                self._durable.popitem(last=False)


def _identity(status: os.stat_result) -> _Identity:
    return status.st_ino, status.st_ctime_ns


def _holds(descriptor: int, content: bytes) -> bool:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size != len(content):
        return False
    return files.read_up_to(descriptor, len(content) + 1) == content


def _sync_whole(path: str) -> None:
    """Note the size of a file that has grown, and sync it; if that fails, remove it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        files.FileReader.record_size(descriptor)
        os.fsync(descriptor)
    except OSError:
        # What did not reach the disk counts as written from now on, so that a second try would
        # seem to succeed. Source: fsync(2), notes.
        with suppress(OSError):  # the first failure is the one to report
            os.unlink(path)  # noqa: PTH108 -- plain strings throughout
        raise
    finally:
        os.close(descriptor)


def _discard(written: Sequence[_Written]) -> None:
    """Remove files that have not got to their places."""
    for file in written:
        os.close(file.descriptor)
        with suppress(OSError):  # the first failure is the one to report
            os.unlink(file.path)  # noqa: PTH108 -- plain strings throughout
