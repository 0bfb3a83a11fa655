"""A storage in a directory tree of one file system.

Besides the tree itself there is one directory of ours, `PRIVATE`, which distribution never looks
into: ``tmp/`` holds objects on their way in or out, ``locks/`` the files that `lock` locks.
It may be removed whenever no process is serving the tree.
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from dockyard.errors import (
    PathUnknownError,
    StorageBusyError,
    StorageError,
    StorageFullError,
)
from dockyard.storage import files
from dockyard.storage.interface import Entry, ObjectTooLargeError
from dockyard.threads import in_thread


PRIVATE: Final = "docker/registry/v2/.dockyard"
"""Our own directory: beside ``blobs`` and ``repositories``, so on their file system (a rename
must not cross one), and hidden, so that ``tree`` and ``ls`` show what distribution shows."""

LOCKS: Final = 256
"""Lock files; names share them by hash. 256 keep two random names apart 99.6 % of the time."""

LOCK_WAIT: Final = 10.0
"""Seconds to wait for a lock. It is held for a few syncs, some milliseconds each, so ten seconds
mean a stuck disk, and the client had better hear of it."""

STALE: Final = 3600.0
"""Seconds after which an object in ``tmp/`` is a leftover: they live for milliseconds."""

SETTLED: Final = 1.0
"""Seconds after which a directory's time tells that it has not changed since: file systems count
time in steps of up to a hundredth of a second, network file systems look again within one."""

KNOWN_DIRECTORIES: Final = 8192
"""Directories remembered as durably named: about 1 MB. Forgetting costs one more sync."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MISSING: Final = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_GONE: Final = (FileNotFoundError,)
"""What a write takes for missing: a file where a directory should be is trouble instead."""

_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""Flags to read by. `os.O_NONBLOCK` is for what is no file: opening a FIFO would wait forever."""


class FilesystemStorage:
    """See `dockyard.storage.interface.Storage`. Modes of files and directories follow the umask."""

    def __init__(self, root: Path) -> None:
        self._root: Final = str(root)
        self._tmp: Final = f"{self._root}/{PRIVATE}/tmp"  # noqa: S108 -- ours, not the machine's
        self._locks: Final = f"{self._root}/{PRIVATE}/locks"
        self._named: Final[set[str]] = set()
        self._root_is_named = False
        self._epoch: Final = files.boot_epoch()

    @property
    def epoch(self) -> str:
        """See `Storage.epoch`: what is in the page cache ends with the machine's boot."""
        return self._epoch

    async def get(self, path: str, limit: int) -> bytes:
        """See `Storage.get`. Read at once, without a thread: links and manifests are small."""
        with _translating(path):
            descriptor = os.open(f"{self._root}/{path}", _READ)
            try:
                content = os.read(descriptor, limit + 1)
            finally:
                os.close(descriptor)
        if len(content) > limit:
            raise ObjectTooLargeError(path, limit)
        return content

    async def put(self, path: str, content: bytes) -> None:
        """See `Storage.put`."""
        with _translating(path, missing=_GONE):
            await in_thread(self._put, path, content)

    async def open(self, path: str) -> files.FileReader:
        """See `Storage.open`."""
        with _translating(path):
            descriptor = os.open(f"{self._root}/{path}", _READ)
            status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise PathUnknownError(path)
        return files.FileReader(descriptor, path, status.st_size)

    @asynccontextmanager
    async def append(self, path: str) -> AsyncGenerator[files.FileWriter]:
        """See `Storage.append`."""
        full = f"{self._root}/{path}"
        with _translating(path):
            descriptor = os.open(full, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            with _translating(path):
                files.hold_end(descriptor, full, path)
                size = os.fstat(descriptor).st_size
            yield files.FileWriter(descriptor, size)
        finally:
            os.close(descriptor)

    async def create(self, path: str, content: bytes = b"") -> None:
        """See `Storage.create`."""
        full = f"{self._root}/{path}"
        with _translating(path, missing=_GONE):
            descriptor = files.create_file(full)
            try:
                os.write(descriptor, content)
            finally:
                os.close(descriptor)

    async def publish(self, source: str, target: str) -> None:
        """See `Storage.publish`."""
        with _translating(source, missing=_GONE):
            await in_thread(self._publish, source, target)

    async def move(self, source: str, target: str) -> None:
        """See `Storage.move`."""
        with _translating(source, missing=_GONE):
            await in_thread(self._move, source, target)

    async def note(self, path: str, mark: bytes) -> None:
        """See `Storage.note`. Appending is one system call; who removes the file is noticed."""
        full = f"{self._root}/{path}"
        with _translating(path, missing=_GONE):
            for _ in range(files.MAKE_TRIES):
                files.make_directories(os.path.dirname(full))  # noqa: PTH120 -- hot
                with suppress(FileNotFoundError):
                    if files.append_mark(full, mark):
                        return
        raise StorageError(f"{path} is removed again and again")

    async def age(self, path: str) -> float:
        """See `Storage.age`."""
        with _translating(path):
            status = os.stat(f"{self._root}/{path}")  # noqa: PTH116 -- hot
        return max(0.0, time.time() - status.st_ctime)

    async def size(self, path: str) -> int:
        """See `Storage.size`."""
        with _translating(path):
            status = os.stat(f"{self._root}/{path}")  # noqa: PTH116 -- hot
        if not stat.S_ISREG(status.st_mode):
            raise PathUnknownError(path)
        return status.st_size

    async def exists(self, path: str) -> bool:
        """See `Storage.exists`."""
        try:
            with _translating(path):
                os.stat(f"{self._root}/{path}")  # noqa: PTH116 -- hot
        except PathUnknownError:
            return False
        return True

    async def list(self, path: str) -> Iterable[Entry]:
        """See `Storage.list`. In a thread: a directory may have any number of names."""
        with _translating(path):
            return await in_thread(files.list_directory, f"{self._root}/{path}")

    async def stamp(self, path: str) -> str | None:
        """See `Storage.stamp`."""
        with _translating(path):
            status = os.stat(f"{self._root}/{path}")  # noqa: PTH116 -- hot
        if abs(time.time() - status.st_mtime) < SETTLED:
            return None
        return f"{status.st_ino}-{status.st_mtime_ns}"

    async def delete(self, path: str) -> None:
        """See `Storage.delete`."""
        with _translating(path):
            await in_thread(self._delete, path)

    @asynccontextmanager
    async def lock(self, kind: str, name: str, *, shared: bool = False) -> AsyncGenerator[None]:
        """See `Storage.lock`. Waits up to `LOCK_WAIT`.

        Whoever wants the lock passes a gate first and holds it while waiting, so that an exclusive
        holder gets its turn although shared ones keep coming.
        """
        stripe = f"{kind}-{hashlib.sha256(name.encode()).digest()[0] % LOCKS:02x}"
        with _translating(name):
            gate = self._open_lock(f"{stripe}.gate")
        try:
            with _translating(name):
                await _hold(gate, fcntl.LOCK_EX, name)
                descriptor = self._open_lock(stripe)
        except BaseException:
            os.close(gate)
            raise
        try:
            try:
                with _translating(name):
                    await _hold(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, name)
            finally:
                os.close(gate)
            yield
        finally:
            os.close(descriptor)

    def _open_lock(self, name: str) -> int:
        path, flags = f"{self._locks}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            os.makedirs(self._locks, exist_ok=True)  # noqa: PTH103 -- plain strings throughout
            return os.open(path, flags, 0o666)

    def sweep(self) -> int:
        """Remove what a killed process left in ``tmp/``; return how many objects it was.

        Blocking. Never touches what is younger than `STALE`: another process may be using it.
        """
        removed = 0
        oldest = time.time() - STALE
        with suppress(FileNotFoundError), os.scandir(self._tmp) as entries:
            for entry in entries:
                if entry.stat(follow_symlinks=False).st_ctime < oldest:
                    files.remove_tree(entry.path)
                    removed += 1
        return removed

    def _put(self, path: str, content: bytes) -> None:
        temporary = self._temporary()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o666)
        try:
            try:
                view = memoryview(content)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._rename(temporary, path)
        except OSError:
            with suppress(OSError):  # the first failure is the one to report
                os.unlink(temporary)  # noqa: PTH108 -- plain strings throughout
            raise
        with suppress(FileNotFoundError):  # someone removed it since: that is what happened last
            self._sync_name(path)

    def _publish(self, source: str, target: str) -> None:
        full = f"{self._root}/{source}"
        descriptor = os.open(full, os.O_RDONLY | os.O_CLOEXEC)
        try:
            files.FileReader.record_size(descriptor)
            os.fsync(descriptor)
        except OSError:
            # What did not reach the disk counts as written from now on, so that a second try would
            # seem to succeed. Source: fsync(2), notes.
            with suppress(OSError):  # the first failure is the one to report
                os.unlink(full)  # noqa: PTH108 -- plain strings throughout
            raise
        finally:
            os.close(descriptor)
        self._rename(full, target)
        with suppress(FileNotFoundError):  # someone moved it on since, and synced that name
            self._sync_name(target)

    def _rename(self, source: str, path: str) -> None:
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
                self._forget(directory)
                files.make_directories(directory)

    def _sync_name(self, path: str) -> None:
        """Make the name of `path` durable, in the strictest reading of POSIX."""
        directory = os.path.dirname(f"{self._root}/{path}")  # noqa: PTH120 -- hot
        try:
            self._sync_names(directory)
            files.sync_directory(directory)
        except FileNotFoundError:
            self._forget(directory)
            raise

    def _sync_names(self, directory: str) -> None:
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
            files.sync_directory(os.path.dirname(name))  # noqa: PTH120 -- hot
            self._named.add(name)

    def _sync_root(self) -> None:
        """Make the root's own name durable, and the names above it up to where it is mounted."""
        directory = os.path.realpath(self._root)
        while not os.path.ismount(directory):
            directory = os.path.dirname(directory)  # noqa: PTH120 -- plain strings throughout
            with suppress(PermissionError):  # not ours to read, so not made by us
                files.sync_directory(directory)
        self._root_is_named = True

    def _forget(self, directory: str) -> None:
        while directory != self._root:
            self._named.discard(directory)
            directory = os.path.dirname(directory)  # noqa: PTH120 -- hot

    def _move(self, source: str, target: str) -> None:
        full = f"{self._root}/{source}"
        self._rename(full, target)
        self._sync_name(target)  # the new name before the old one goes
        parent = os.path.dirname(full)  # noqa: PTH120 -- plain strings throughout
        with suppress(FileNotFoundError):  # its directory went too
            files.sync_directory(parent)
        if not os.path.isdir(f"{self._root}/{target}"):  # noqa: PTH112 -- plain strings throughout
            with suppress(OSError):  # there is more in it, or it is gone
                os.rmdir(parent)  # noqa: PTH106 -- plain strings throughout
                self._forget(parent)

    def _delete(self, path: str) -> None:
        full = f"{self._root}/{path}"
        os.lstat(full)  # so that a missing path is reported before anything is made
        try:
            temporary = self._temporary()
        except OSError as error:
            if error.errno not in _FULL:
                raise
            temporary = full  # no room for our own directory; removing makes some
        else:
            # One rename takes a whole directory away, so no reader meets half of it.
            os.replace(full, temporary)  # noqa: PTH105 -- plain strings throughout
        self._forget(full)
        files.sync_directory(os.path.dirname(full))  # noqa: PTH120 -- plain strings throughout
        files.remove_tree(temporary)

    def _temporary(self) -> str:
        os.makedirs(self._tmp, exist_ok=True)  # noqa: PTH103 -- hot
        return f"{self._tmp}/{uuid4().hex}"


async def _hold(descriptor: int, operation: int, name: str) -> None:
    pause = 0.001
    deadline = time.monotonic() + LOCK_WAIT
    while True:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise StorageBusyError(name) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.05)
        else:
            return


@contextmanager
def _translating(path: str, missing: tuple[type[OSError], ...] = _MISSING) -> Generator[None]:
    """Report the operating system's failures as this package's, with the cause chained."""
    try:
        yield
    except missing as error:
        raise PathUnknownError(path) from error
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError(f"no room left for {path}: {error.strerror}") from error
        if error.errno == errno.ELOOP and missing is _MISSING:
            raise PathUnknownError(path) from error  # links that lead nowhere
        raise StorageError(f"{path}: {error.strerror}") from error
