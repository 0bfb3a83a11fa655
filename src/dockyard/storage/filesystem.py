"""A storage in a directory tree of one file system.

Besides the tree itself there is one directory of ours, `PRIVATE`, which distribution never looks
into: ``tmp/`` holds objects on their way in or out, ``locks/`` the files that `lock` locks.
It may be removed whenever no process is serving the tree.
"""

import asyncio
import os
import stat
import time
from collections.abc import AsyncGenerator, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

from dockyard.errors import PathUnknownError, StorageError
from dockyard.storage import files, looks, notes
from dockyard.storage.growing import FileWriter, WriteBack
from dockyard.storage.interface import Amendment, Entry, ObjectTooLargeError, Stamp
from dockyard.storage.locks import FileLocks
from dockyard.storage.naming import DurableNames
from dockyard.storage.placing import Placing
from dockyard.storage.promptness import Promptness
from dockyard.storage.translation import FULL, GONE, translating
from dockyard.storage.witness import FileWitness
from dockyard.threads import in_thread


PRIVATE: Final = "docker/registry/v2/.dockyard"
"""Our own directory: beside ``blobs`` and ``repositories``, so on their file system (a rename
must not cross one), and hidden, so that ``tree`` and ``ls`` show what distribution shows."""

STALE: Final = 3600.0
"""Seconds after which an object in ``tmp/`` is a leftover: they live for milliseconds."""

BATCH: Final = 256
"""Objects moved or removed in one turn of a thread: some 20 ms, so that a caller that is told to
stop does so at once."""

THREADS: Final = 4
"""Batches removed at once: a disk with its own queue is kept busy, and pushes still get theirs."""


class FilesystemStorage:
    """See `dockyard.storage.interface.Storage`. Modes of files and directories follow the umask."""

    def __init__(self, root: Path) -> None:
        self._root: Final = str(root)
        self._tmp: Final = f"{self._root}/{PRIVATE}/tmp"  # noqa: S108 -- ours, not the machine's
        self._names: Final = DurableNames(self._root)
        self._placing: Final = Placing(self._root, self._names, self._temporary)
        self._prompt: Final = Promptness()
        self._write_back: Final = WriteBack()
        self._growing: Final[dict[str, FileWriter]] = {}
        self._locks: Final = FileLocks(f"{self._root}/{PRIVATE}/locks", self._prompt)
        self._epoch: Final = files.boot_epoch()

    @property
    def epoch(self) -> str:
        """See `Storage.epoch`: what is in the page cache ends with the machine's boot."""
        return self._epoch

    async def get(self, path: str, limit: int) -> bytes:
        """See `Storage.get`. Read at once while the disk is prompt: they are small."""
        with translating(path):
            content = await self._prompt.run(files.read_file, f"{self._root}/{path}", limit + 1)
        if len(content) > limit:
            raise ObjectTooLargeError(path, limit)
        return content

    async def put(self, path: str, content: bytes) -> None:
        """See `Storage.put`."""
        await self.put_all([(path, content)])

    async def put_all(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """See `Storage.put_all`. What is there already, and durable, needs no thread."""
        if self._prompt.is_lost or not all(self._placing.is_in_place(*each) for each in objects):
            with translating(objects[0][0], missing=GONE):
                await in_thread(self._placing.put_all, objects)

    async def open(self, path: str) -> files.FileReader:
        """See `Storage.open`."""
        with translating(path):
            opened = await self._prompt.acquire(
                files.open_file, files.release, f"{self._root}/{path}"
            )
        if opened is None:
            raise PathUnknownError(path)
        return files.FileReader(*opened, path, self._prompt)

    @asynccontextmanager
    async def append(self, path: str) -> AsyncGenerator[FileWriter]:
        """See `Storage.append`."""
        full = f"{self._root}/{path}"
        with translating(path):
            descriptor, size = await self._prompt.acquire(files.open_end, files.release, full, path)
        writer = FileWriter(descriptor, full, size, self._prompt, self._write_back)
        self._growing[path] = writer
        try:
            yield writer
            await writer.settle()
        except BaseException:
            with suppress(StorageError):  # the first failure is the one to report
                await writer.settle()
            raise
        finally:
            del self._growing[path]
            os.close(descriptor)

    async def create(self, path: str, content: bytes = b"") -> None:
        """See `Storage.create`."""
        full = f"{self._root}/{path}"
        with translating(path, missing=GONE):
            await self._prompt.run(files.create_file, full, content)

    async def publish(
        self, source: str, target: str, ahead: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        """See `Storage.publish`."""
        if (writer := self._growing.get(source)) is not None:
            await writer.settle()
        with translating(source, missing=GONE):
            await in_thread(self._placing.publish, source, target, ahead)

    async def move(self, source: str, target: str) -> None:
        """See `Storage.move`."""
        with translating(source, missing=GONE):
            await in_thread(self._move, source, target)

    async def move_all(self, moves: Sequence[tuple[str, str]]) -> Mapping[str, StorageError | None]:
        """See `Storage.move_all`. Each target's directory is synced once in a batch."""
        results: dict[str, StorageError | None] = {}
        emptied: Sequence[str] = ()
        for start in range(0, len(moves), BATCH):
            # Removing directories takes most of the time, so the next batch moves meanwhile.
            moved, _ = await asyncio.gather(
                in_thread(self._move_all, moves[start : start + BATCH]),
                in_thread(self._remove_all_empty, emptied),
            )
            results |= moved
            sources = [source for source, error in moved.items() if error is None]
            emptied = self._directories(sources)
        await in_thread(self._remove_all_empty, emptied)
        return results

    async def note(self, path: str, mark: bytes) -> None:
        """See `Storage.note`. Appending is one system call; who removes the file is noticed."""
        full = f"{self._root}/{path}"
        with translating(path, missing=GONE):
            if not await self._prompt.run(files.note, full, mark):
                raise StorageError(f"{path} is removed again and again")

    def note_at_once(self, path: str, mark: bytes, lock: tuple[str, str]) -> bool:
        """See `Storage.note_at_once`. A dozen system calls, none of which waits for the disk."""
        if self._prompt.is_lost:
            return False
        began = time.monotonic()
        try:
            held = self._locks.share_at_once(*lock)
            if held is None:
                return False
            try:
                return files.append_mark(f"{self._root}/{path}", mark)
            finally:
                os.close(held)
        except OSError:
            return False
        finally:
            self._prompt.note(time.monotonic() - began)

    async def amend(
        self, paths: Sequence[str], tail: int, amendment: Amendment
    ) -> Mapping[str, StorageError]:
        """See `Storage.amend`. So many in one go that others soon get their turn."""
        failed: dict[str, StorageError] = {}
        for start in range(0, len(paths), notes.AMENDED):
            if start:
                await asyncio.sleep(0)
            batch = paths[start : start + notes.AMENDED]
            failed |= await self._prompt.run(notes.amend_all, self._root, batch, tail, amendment)
        return failed

    async def age(self, path: str) -> float:
        """See `Storage.age`."""
        with translating(path):
            status = await self._prompt.run(os.stat, f"{self._root}/{path}")
        return max(0.0, time.time() - status.st_ctime)

    async def modified(self, path: str) -> datetime:
        """See `Storage.modified`."""
        with translating(path):
            status = await self._prompt.run(os.stat, f"{self._root}/{path}")
        return datetime.fromtimestamp(status.st_mtime, UTC)

    async def size(self, path: str) -> int:
        """See `Storage.size`."""
        with translating(path):
            status = await self._prompt.run(os.stat, f"{self._root}/{path}")
        if not stat.S_ISREG(status.st_mode):
            raise PathUnknownError(path)
        return status.st_size

    async def exists(self, path: str) -> bool:
        """See `Storage.exists`."""
        try:
            with translating(path):
                await self._prompt.run(os.stat, f"{self._root}/{path}")
        except PathUnknownError:
            return False
        return True

    async def list(self, path: str) -> Iterable[Entry]:
        """See `Storage.list`. A large directory in a thread: it may have any number of names."""
        full = f"{self._root}/{path}"
        with translating(path):
            if (await self._prompt.run(os.stat, full)).st_size <= files.SMALL_DIRECTORY:
                return await self._prompt.run(files.list_directory, full)
            return await in_thread(files.list_directory, full)

    async def names(self, path: str) -> Sequence[str]:
        """See `Storage.names`. A large directory in a thread, sorting included."""
        full = f"{self._root}/{path}"
        with translating(path):
            if (await self._prompt.run(os.stat, full)).st_size <= files.SMALL_DIRECTORY:
                return await self._prompt.run(looks.names, full)
            return await in_thread(looks.names, full)

    async def stamp(self, path: str) -> Stamp | None:
        """See `Storage.stamp`."""
        with translating(path):
            status = await self._prompt.run(os.stat, f"{self._root}/{path}")
        return looks.stamp_of(status, time.time())

    async def stamps(self, directory: str, names: Sequence[str]) -> Sequence[Stamp | None]:
        """See `Storage.stamps`."""
        with translating(directory):
            return await looks.look(self._prompt, looks.stamps, f"{self._root}/{directory}", names)

    async def exist(self, directory: str, names: Sequence[str]) -> Sequence[bool]:
        """See `Storage.exist`."""
        with translating(directory):
            return await looks.look(self._prompt, looks.exist, f"{self._root}/{directory}", names)

    async def witness(self, paths: Sequence[str]) -> FileWitness | None:
        """See `Storage.witness`."""
        with translating(paths[0]):
            full = [f"{self._root}/{path}" for path in paths]
            return await self._prompt.run(FileWitness.of, full, self._prompt)

    async def delete(self, path: str) -> None:
        """See `Storage.delete`."""
        with translating(path):
            await in_thread(self._delete, path)

    async def delete_all(self, paths: Collection[str]) -> None:
        """See `Storage.delete_all`."""
        ordered = list(paths)
        failed: StorageError | None = None
        for start in range(0, len(ordered), BATCH * THREADS):
            batches = [
                ordered[begin : begin + BATCH]
                for begin in range(start, min(start + BATCH * THREADS, len(ordered)), BATCH)
            ]
            removing = (in_thread(self._delete_all, batch) for batch in batches)
            for results in await asyncio.gather(*removing):
                troubles = (each for each in results.values() if each is not None)
                failed = failed or next(troubles, None)
        if failed is not None:
            raise failed

    def lock(
        self, kind: str, name: str, *, shared: bool = False
    ) -> AbstractAsyncContextManager[None]:
        """See `Storage.lock`."""
        return self._locks.hold(kind, name, shared=shared)

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

    def _move(self, source: str, target: str) -> None:
        full = f"{self._root}/{source}"
        self._names.rename(full, target)
        self._names.sync(target)  # the new name before the old one goes
        parent = os.path.dirname(full)  # noqa: PTH120 -- plain strings throughout
        with suppress(FileNotFoundError):  # its directory went too
            files.sync_directory(parent)
        if os.path.isdir(f"{self._root}/{target}"):  # noqa: PTH112 -- plain strings throughout
            self._names.forget(full)
        else:
            self._remove_empty(parent)

    def _move_all(self, moves: Sequence[tuple[str, str]]) -> dict[str, StorageError | None]:
        """Rename all, then sync the new names: until then the old ones may come back, no more.

        Only then may directories go that held nothing else: with them the old names would be gone.
        """
        results: dict[str, StorageError | None] = {}
        targets: dict[str, str] = {}
        for source, target in moves:
            full = f"{self._root}/{source}"
            with _collecting(results, source):
                self._names.rename(full, target)
                targets[os.path.dirname(target)] = target  # noqa: PTH120 -- plain strings
        for target in targets.values():
            with translating(target), suppress(FileNotFoundError):  # moved on since
                self._names.sync(target)
        return results

    def _directories(self, paths: Iterable[str]) -> Sequence[str]:
        """Return the directories of objects, each once."""
        return list({os.path.dirname(f"{self._root}/{path}") for path in paths})  # noqa: PTH120

    def _remove_all_empty(self, directories: Iterable[str]) -> None:
        for directory in directories:
            self._remove_empty(directory)

    def _remove_empty(self, directory: str) -> None:
        """Remove a directory from which something was moved, if it held nothing else."""
        with suppress(OSError):  # there is more in it, or it is gone
            os.rmdir(directory)  # noqa: PTH106 -- plain strings throughout
            self._names.forget(directory)

    def _delete(self, path: str) -> None:
        full = f"{self._root}/{path}"
        temporary = self._take_away(full)
        files.sync_directory(os.path.dirname(full))  # noqa: PTH120 -- plain strings throughout
        files.remove_tree(temporary)

    def _delete_all(self, paths: Sequence[str]) -> dict[str, StorageError | None]:
        results: dict[str, StorageError | None] = {}
        parents: set[str] = set()
        for path in paths:
            full = f"{self._root}/{path}"
            with _collecting(results, path), suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(full)  # noqa: PTH108 -- plain strings throughout
                parents.add(os.path.dirname(full))  # noqa: PTH120 -- plain strings throughout
        self._remove_all_empty(parents)
        return results

    def _take_away(self, full: str) -> str:
        """Move what is to be removed to our own directory; return where it is now."""
        os.lstat(full)  # so that a missing path is reported before anything is made
        try:
            temporary = self._temporary()
        except OSError as error:
            if error.errno not in FULL:
                raise
            temporary = full  # no room for our own directory; removing makes some
        else:
            # One rename takes a whole directory away, so no reader meets half of it.
            os.replace(full, temporary)  # noqa: PTH105 -- plain strings throughout
        self._names.forget(full)
        return temporary

    def _temporary(self) -> str:
        os.makedirs(self._tmp, exist_ok=True)  # noqa: PTH103 -- hot
        return f"{self._tmp}/{uuid4().hex}"


@contextmanager
def _collecting(results: dict[str, StorageError | None], path: str) -> Generator[None]:
    """Note in `results` how what is done with `path` ended."""
    try:
        with translating(path, missing=GONE):
            yield
    except StorageError as error:
        results[path] = error
    else:
        results[path] = None
