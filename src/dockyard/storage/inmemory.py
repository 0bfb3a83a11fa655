"""A storage in the memory of one process; its content ends with it."""

import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from dockyard.clock import utc_now
from dockyard.errors import PathUnknownError, StorageBusyError, StorageError
from dockyard.storage.interface import (
    ABSENT,
    Amendment,
    Entry,
    ObjectTooLargeError,
    Piece,
    Stamp,
)


READ_CHUNK: Final = 256 << 10
"""Bytes yielded at once: as much as the `filesystem` driver reads."""


class InMemoryStorage:
    """See `dockyard.storage.interface.Storage`. Durable as long as the process lives."""

    def __init__(self) -> None:
        self._objects: Final[dict[str, bytes]] = {}
        self._growing: Final[dict[str, bytearray]] = {}
        self._ends: Final[set[str]] = set()
        self._locks: Final[dict[str, tuple[asyncio.Lock, int]]] = {}
        self._changed: Final[dict[str, float]] = {}
        self._written: Final[dict[str, datetime]] = {}
        self._began: Final = time.monotonic()

    @property
    def epoch(self) -> str:
        """See `Storage.epoch`. Nothing is lost while there is anyone to ask."""
        return ""

    async def get(self, path: str, limit: int) -> bytes:
        """See `Storage.get`."""
        content = self._content(path)
        if len(content) > limit:
            raise ObjectTooLargeError(path, limit)
        return content

    async def put(self, path: str, content: bytes) -> None:
        """See `Storage.put`."""
        self._objects[path] = bytes(content)
        self._written[path] = utc_now()

    async def put_all(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """See `Storage.put_all`."""
        for path, content in objects:
            await self.put(path, content)

    async def open(self, path: str) -> "_MemoryReader":
        """See `Storage.open`."""
        return _MemoryReader(self._content(path))

    @asynccontextmanager
    async def append(self, path: str) -> AsyncGenerator["_MemoryWriter"]:
        """See `Storage.append`."""
        if path not in self._growing:
            raise PathUnknownError(path)
        if path in self._ends:
            raise StorageBusyError(path)
        self._ends.add(path)
        try:
            yield _MemoryWriter(self._growing[path])
        finally:
            self._ends.discard(path)

    async def create(self, path: str, content: bytes = b"") -> None:
        """See `Storage.create`."""
        self._growing[path] = bytearray(content)

    async def publish(
        self, source: str, target: str, ahead: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        """See `Storage.publish`."""
        if source in self._growing:
            await self.put_all(ahead)
        try:
            self._objects[target] = bytes(self._growing.pop(source))
        except KeyError as error:
            raise PathUnknownError(source) from error
        self._written[target] = utc_now()

    async def move(self, source: str, target: str) -> None:
        """See `Storage.move`."""
        moved = [name for name in self._objects if name == source or name.startswith(f"{source}/")]
        if not moved:
            raise PathUnknownError(source)
        for name in moved:
            renamed = target + name[len(source) :]
            self._objects[renamed] = self._objects.pop(name)
            self._written[renamed] = self._written.pop(name)
        self._changed[target] = time.monotonic()

    async def move_all(self, moves: Sequence[tuple[str, str]]) -> Mapping[str, StorageError | None]:
        """See `Storage.move_all`."""
        results: dict[str, StorageError | None] = {}
        for source, target in moves:
            results[source] = None
            try:
                await self.move(source, target)
            except PathUnknownError as error:
                results[source] = error
        return results

    async def note(self, path: str, mark: bytes) -> None:
        """See `Storage.note`."""
        self._objects[path] = self._objects.get(path, b"") + mark
        self._written[path] = utc_now()
        self._changed[path] = time.monotonic()

    def note_at_once(self, path: str, mark: bytes, lock: tuple[str, str]) -> bool:
        """See `Storage.note_at_once`: nothing here can be told to be the same as before."""
        del path, mark, lock
        return False

    async def amend(
        self, paths: Sequence[str], tail: int, amendment: Amendment
    ) -> Mapping[str, StorageError]:
        """See `Storage.amend`."""
        for path in paths:
            content = self._objects.get(path)
            if content is not None:
                added = amendment(content[-tail:], len(content) <= tail)
                if added:
                    await self.note(path, added)
        return {}

    async def age(self, path: str) -> float:
        """See `Storage.age`. Of objects that were only put: since the beginning."""
        self._content(path)
        return time.monotonic() - self._changed.get(path, self._began)

    async def modified(self, path: str) -> datetime:
        """See `Storage.modified`."""
        self._content(path)
        return self._written.get(path) or utc_now()

    async def size(self, path: str) -> int:
        """See `Storage.size`."""
        return len(self._content(path))

    async def exists(self, path: str) -> bool:
        """See `Storage.exists`."""
        return (
            path in self._objects
            or path in self._growing
            or any(name.startswith(f"{path}/") for name in (*self._objects, *self._growing))
        )

    async def list(self, path: str) -> Iterable[Entry]:
        """See `Storage.list`."""
        found: dict[str, bool] = {}
        for name in (*self._objects, *self._growing):
            if name.startswith(f"{path}/"):
                first, *rest = name[len(path) + 1 :].split("/", 1)
                found[first] = found.get(first, False) or bool(rest)
        if not found:
            raise PathUnknownError(path)
        return [Entry(name, is_directory) for name, is_directory in found.items()]

    async def names(self, path: str) -> Sequence[str]:
        """See `Storage.names`."""
        return sorted(entry.name for entry in await self.list(path))

    async def stamp(self, path: str) -> Stamp | None:
        """See `Storage.stamp`. Never sure: looking at the names costs as little."""
        await self.list(path)
        return None

    async def witness(self, paths: Sequence[str]) -> None:
        """See `Storage.witness`: what is in memory is read as fast as it is looked at."""

    async def stamps(self, directory: str, names: Sequence[str]) -> Sequence[Stamp | None]:
        """See `Storage.stamps`. Never sure of what is there."""
        return [None if there else ABSENT for there in await self.exist(directory, names)]

    async def exist(self, directory: str, names: Sequence[str]) -> Sequence[bool]:
        """See `Storage.exist`."""
        return [await self.exists(f"{directory}/{name}") for name in names]

    async def delete(self, path: str) -> None:
        """See `Storage.delete`."""
        doomed = [
            name
            for name in (*self._objects, *self._growing)
            if name == path or name.startswith(f"{path}/")
        ]
        if not doomed:
            raise PathUnknownError(path)
        for name in doomed:
            self._objects.pop(name, None)
            self._growing.pop(name, None)
            self._written.pop(name, None)

    async def delete_all(self, paths: Collection[str]) -> None:
        """See `Storage.delete_all`."""
        for path in paths:
            self._objects.pop(path, None)
            self._written.pop(path, None)

    @asynccontextmanager
    async def lock(self, kind: str, name: str, *, shared: bool = False) -> AsyncGenerator[None]:
        """See `Storage.lock`. One process: shared holders exclude one another too."""
        del shared
        key = f"{kind}:{name}"
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = (lock, users - 1)

    def _content(self, path: str) -> bytes:
        content = self._objects.get(path)
        if content is None and path in self._growing:
            content = bytes(self._growing[path])
        if content is None:
            raise PathUnknownError(path)
        return content


class _MemoryReader:
    def __init__(self, content: bytes) -> None:
        self._content: Final = content
        self.size: Final = len(content)
        self.recorded_size: Final[int | None] = len(content)

    async def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        for offset in range(start, stop, READ_CHUNK):
            yield self._content[offset : min(offset + READ_CHUNK, stop)]

    def note_size(self) -> bool:
        """It is known."""
        return True

    def forget(self, start: int, stop: int) -> None:
        """Nothing was taken."""

    def close(self) -> None:
        """Nothing is held."""


class _MemoryWriter:
    def __init__(self, content: bytearray) -> None:
        self._content: Final = content

    @property
    def size(self) -> int:
        return len(self._content)

    async def append(self, *pieces: Piece) -> None:
        for piece in pieces:
            self._content.extend(piece)
