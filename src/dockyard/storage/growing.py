"""Growing files of the `filesystem` driver: what arrives goes to the disk while more arrives."""

import asyncio
import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from dockyard.errors import StorageError, StorageFullError
from dockyard.storage.interface import Piece
from dockyard.storage.promptness import Promptness
from dockyard.threads import in_thread, outlast


WRITE_BACK: Final = 8 << 20
"""Bytes of an upload that arrive before they are synced: what is smaller is synced once, at its
end. Each sync is a turn of the file system's journal, as long as writing some of these."""

_VECTOR: Final = 1024
"""Pieces that the kernel takes at once. Source: writev(2), IOV_MAX."""

_NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class WriteBack:
    """Syncs what has arrived of growing files, one at a time in this process.

    The disk has as much to do with one as with many, and each takes a thread as long as it lasts.
    The kernel alone begins so late that the sync at the end waits for nearly all bytes, and merely
    advising it to begin earlier gains nothing.
    """

    def __init__(self) -> None:
        self._busy = False

    def begin(self, descriptor: int, full: str) -> asyncio.Task[None] | None:
        """Begin to sync the file at `full`, unless another is being synced."""
        if self._busy:
            return None
        self._busy = True
        return asyncio.create_task(self._run(descriptor, full))

    async def _run(self, descriptor: int, full: str) -> None:
        try:
            await in_thread(_sync, descriptor, full)
        finally:
            self._busy = False


class FileWriter:
    """See `dockyard.storage.interface.Writer`.

    Args:
        descriptor: of the file, open for appending.
        full: its path.
        size: bytes in it.
        prompt: whether its disk is.
        write_back: syncs what has arrived.
    """

    def __init__(
        self, descriptor: int, full: str, size: int, prompt: Promptness, write_back: WriteBack
    ) -> None:
        self._descriptor: Final = descriptor
        self._full: Final = full
        self._prompt: Final = prompt
        self._write_back: Final = write_back
        self._synced = size  # up to where a sync was begun
        self._syncing: asyncio.Task[None] | None = None
        self.size = size

    async def append(self, *pieces: Piece) -> None:
        """See `Writer.append`. Into the page cache at once, while the disk is prompt."""
        try:
            added = await self._prompt.run(write_all, self._descriptor, pieces)
        except OSError as error:
            with suppress(OSError):  # the first failure is the one to report
                os.ftruncate(self._descriptor, self.size)
            raise _failure("write", error) from error
        self.size += added
        if self.size - self._synced >= WRITE_BACK:
            await self._sync()

    async def settle(self) -> None:
        """Wait for a sync that is under way.

        Raises:
            StorageError: it failed, and the file is gone. A later sync would not tell: the kernel
                tells of each failure once.
        """
        if self._syncing is None:
            return
        syncing, self._syncing = self._syncing, None
        try:
            await outlast(syncing)  # it uses the descriptor
        except OSError as error:
            raise _failure("sync", error) from error

    async def _sync(self) -> None:
        """Begin another sync, if the last one is done."""
        if self._syncing is not None and self._syncing.done():
            await self.settle()
        if self._syncing is None:
            self._syncing = self._write_back.begin(self._descriptor, self._full)
            if self._syncing is not None:
                self._synced = self.size


def write_all(descriptor: int, pieces: Sequence[Piece]) -> int:
    """Write `pieces` to their last byte, as they are; return how many bytes they have."""
    for start in range(0, len(pieces), _VECTOR):
        some = pieces[start : start + _VECTOR]
        written = os.write(descriptor, some[0]) if len(some) == 1 else os.writev(descriptor, some)
        if written < sum(map(len, some)):
            rest = memoryview(b"".join(some))[written:]
            while rest:
                rest = rest[os.write(descriptor, rest) :]
    return sum(map(len, pieces))


def _sync(descriptor: int, full: str) -> None:
    """Sync the file's bytes; if that fails, remove it: nobody can tell what reached the disk."""
    try:
        os.fdatasync(descriptor)
    except OSError:
        with suppress(OSError):  # the first failure is the one to report
            os.unlink(full)  # noqa: PTH108 -- plain strings throughout
        raise


def _failure(what: str, error: OSError) -> StorageError:
    if error.errno in _NO_ROOM:
        return StorageFullError(f"no room left: {error.strerror}")
    return StorageError(f"{what} failed: {error.strerror}")
