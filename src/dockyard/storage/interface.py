"""What a storage promises, whichever driver is behind it.

The life of an object. *Small* objects (links, manifests, upload notes) come by `Storage.put`:
written elsewhere, synced, renamed; readers see the old bytes or the new. *Large* ones (blobs) grow
in an upload's own file through `Storage.append`, which readers of blobs never look at, and
become a blob in one step by `Storage.publish`. Nothing half-written ever has a blob's name.

Paths are relative to the storage's root, ``/``-separated, made by `dockyard.storage.layout` only.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, TypeAlias

from dockyard.errors import StorageError


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory.

    Attributes:
        name: the last component of its path.
        is_directory: whether it may have entries of its own.
    """

    name: str
    is_directory: bool


Stamp: TypeAlias = tuple[int, ...]
"""What tells that something in a storage has not changed: it had the same stamp before."""

ABSENT: Final[Stamp] = ()
"""The stamp of what is not there."""


Amendment: TypeAlias = Callable[[bytes, bool], bytes]
"""What makes of the last bytes of an object, and of whether they are all, what is to be added."""


class ObjectTooLargeError(StorageError):
    """An object is larger than whoever asks for it takes: it is not what belongs there.

    Attributes:
        path: the path inside the storage.
        limit: the most bytes it may have.
    """

    def __init__(self, path: str, limit: int) -> None:
        super().__init__(f"{path} has more than {limit} bytes")
        self.path = path
        self.limit = limit


class Reader(Protocol):
    """An object opened for reading; sees the bytes that were there when it was opened."""

    @property
    def size(self) -> int:
        """Bytes in the object."""
        ...

    @property
    def recorded_size(self) -> int | None:
        """Bytes the object had when it was published, if the storage could note that."""
        ...

    def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes of the half-open range, in chunks of the driver's choosing.

        Raises:
            StorageError: the bytes could not be read, or end before `stop`.
        """
        ...

    def note_size(self) -> bool:
        """Note how many bytes the object has, as if it were published now; return if that is there.

        For who has made sure that they are all there.
        """
        ...

    def forget(self, start: int, stop: int) -> None:
        """Give back the memory that reading the half-open range took from what others read."""
        ...

    def close(self) -> None:
        """Release the object. Repeating is harmless."""
        ...


Piece: TypeAlias = bytes | memoryview
"""Bytes on their way, or a view of some."""


class Writer(Protocol):
    """The end of a growing object, held by one request at a time."""

    @property
    def size(self) -> int:
        """Bytes in the object, those appended included."""
        ...

    async def append(self, *pieces: Piece) -> None:
        """Add `pieces` at the end.

        Raises:
            StorageFullError: no room; the object ends where it ended before them.
            StorageError: the bytes could not be written.
        """
        ...


class Witness(Protocol):
    """What tells whether some objects are still those that they were when it was made."""

    def stands(self) -> bool:
        """Return whether none was changed, replaced or removed since; in doubt, `False`.

        It waits for nothing: on the way of a request it costs a look at each object's entry.
        """
        ...


class Storage(Protocol):
    """A tree of objects.

    Every driver gives these guarantees; `tests/contract` and `tests/crash` check them:

    * Atomic: a reader sees an object whole, as it was or as it is, or not at all.
    * Durable: what `put`, `publish` or `delete` did survives loss of power once they return.
    * Independent: processes that share the storage may all write; `lock` orders them.

    A driver reports a missing path as `PathUnknownError`, lack of room as `StorageFullError` and
    any other trouble as `StorageError`, cause chained.
    """

    @property
    def epoch(self) -> str:
        """A text that differs once bytes that were not published may have been lost."""
        ...

    async def get(self, path: str, limit: int) -> bytes:
        """Return the object's bytes.

        Raises:
            ObjectTooLargeError: they are more than `limit`.
        """
        ...

    async def put(self, path: str, content: bytes) -> None:
        """Make `content` the object at `path`, making directories as needed.

        It is written now, also if it was there already; but then, if that was within the last
        second, it may keep its time.
        """
        ...

    async def put_all(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """Make objects as `put` does, for the cost of a few.

        None has its name before those ahead of it would survive loss of power. Unless all of them
        were there already, all are written now.
        """
        ...

    async def open(self, path: str) -> Reader:
        """Open the object at `path` for reading."""
        ...

    def append(self, path: str) -> AbstractAsyncContextManager[Writer]:
        """Open the growing object at `path`; the file must have been made by `create`.

        Raises:
            PathUnknownError: there is no such object.
            StorageBusyError: another request, of any process, holds its end.
        """
        ...

    async def create(self, path: str, content: bytes = b"") -> None:
        """Make a growing object at `path` that begins with `content`, in place of any there.

        Not durable: what an upload has received is acknowledged when it is published.
        """
        ...

    async def publish(
        self, source: str, target: str, ahead: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        """Sync the growing object at `source` and rename it to `target`, replacing it.

        If it can't be synced it is removed: nobody can tell what of it reached the disk.

        Args:
            source: a path given to `create`.
            target: the path of the object that it becomes.
            ahead: objects to make as `put` does, for whoever sees `target` to see them too. If one
                can't be made, nothing is published.
        """
        ...

    async def move(self, source: str, target: str) -> None:
        """Give the object or directory at `source` the path `target`, replacing an object there.

        Whoever finds nothing at `source` afterwards finds it at `target`, also after loss of power.
        A directory that held nothing but a moved object goes too.
        """
        ...

    async def move_all(self, moves: Sequence[tuple[str, str]]) -> Mapping[str, StorageError | None]:
        """Move objects as `move` does, one after another, for the cost of a few.

        Returns:
            For each source: nothing if it was moved, or why it was not.
        """
        ...

    async def note(self, path: str, mark: bytes) -> None:
        """Add `mark` to the small object at `path`, making it as needed; what others add stays.

        Not durable.
        """
        ...

    def note_at_once(self, path: str, mark: bytes, lock: tuple[str, str]) -> bool:
        """Add `mark` as `note` does, with the lock of that kind and name shared in passing.

        Returns:
            Whether that was done. It is not where anything would have to be waited for, or made, or
            is in the way: `note` does it then, or says why not.
        """
        ...

    async def amend(
        self, paths: Sequence[str], tail: int, amendment: Amendment
    ) -> Mapping[str, StorageError]:
        """Add to small objects, as `note` does, what `amendment` makes of the end of each.

        It is given up to `tail` bytes, and whether that is all. What is not there is passed over.

        Returns:
            For each object to which nothing could be added why that is so.
        """
        ...

    async def age(self, path: str) -> float:
        """Return how many seconds ago the object at `path` was last written or moved."""
        ...

    async def modified(self, path: str) -> datetime:
        """Return when the bytes of the object at `path` were written; moving it keeps that."""
        ...

    async def size(self, path: str) -> int:
        """Return the object's length in bytes."""
        ...

    async def exists(self, path: str) -> bool:
        """Return whether an object or directory is at `path`."""
        ...

    async def list(self, path: str) -> Iterable[Entry]:
        """Return the names in the directory at `path`, in no order."""
        ...

    async def names(self, path: str) -> Sequence[str]:
        """Return the names in the directory at `path`, in the order of their code points."""
        ...

    async def stamp(self, path: str) -> Stamp | None:
        """Return what differs once names came to or left the directory at `path`.

        `None`: they did so too short a time ago to tell; ask again later.
        """
        ...

    async def witness(self, paths: Sequence[str]) -> Witness | None:
        """Return what tells later whether the objects at `paths` are still the same.

        What is read of them *after* that is what it stands for. `None`: that can't be told here, or
        one was changed too short a time ago.
        """
        ...

    async def stamps(self, directory: str, names: Sequence[str]) -> Sequence[Stamp | None]:
        """Return for each of the paths `names` below `directory` what `stamp` does, at low cost.

        Of an object it differs once it was replaced or its bytes changed. What is not there is
        `ABSENT`, and so are they all if `directory` is missing; what can't be looked at is `None`.
        """
        ...

    async def exist(self, directory: str, names: Sequence[str]) -> Sequence[bool]:
        """Return for each of the paths `names` below `directory` what `exists` does, at low cost.

        None of them do if `directory` is missing.
        """
        ...

    async def delete(self, path: str) -> None:
        """Remove the object or the directory with all it holds.

        Removing what is not there is `PathUnknownError`.
        """
        ...

    async def delete_all(self, paths: Collection[str]) -> None:
        """Remove objects; what is not there is passed over.

        A directory that held nothing but a removed object goes too.
        Not durable: after loss of power some may be there again. For what harms nobody then.

        Raises:
            StorageError: one could not be removed; the others were.
        """
        ...

    def lock(
        self, kind: str, name: str, *, shared: bool = False
    ) -> AbstractAsyncContextManager[None]:
        """Hold the lock called `name` among all processes that share the storage.

        Different names of one kind may share one lock, so never hold two of a kind; two kinds are
        always taken in the same order. A shared holder keeps exclusive ones out only.

        Raises:
            StorageError: it could not be had in the driver's stated time.
        """
        ...
