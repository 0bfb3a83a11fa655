"""Verification: whether each blob's bytes have its digest, in pieces that can be interrupted."""

import asyncio
import json
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Final

import structlog

from dockyard.core.problems import Kind, Problem, Watcher
from dockyard.errors import DigestInvalidError, PathUnknownError, StorageError
from dockyard.oci.digest import Digest, Hasher
from dockyard.storage import layout
from dockyard.storage.interface import ObjectTooLargeError, Reader, Storage
from dockyard.threads import in_thread


NOTED_SECONDS: Final = 5.0
"""Seconds between two notes of how far it has come: so much is read again after a kill."""

PROGRESS_LIMIT: Final = 1 << 20
"""Bytes of that note: a cursor and some thousand damaged digests."""

FORGOTTEN: Final = 8 << 20
"""Bytes of a blob after which what reading them took of the page cache is given back: little beside
what it holds, and so much that giving back costs nothing."""


class Pace:
    """Reads no faster than a rate.

    Args:
        rate: bytes in a second at most; zero: as fast as it goes.
        seconds: tells the seconds that have passed.
    """

    def __init__(self, rate: int, seconds: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._seconds = seconds
        self._read = 0
        self._began = seconds()

    async def read(self, size: int) -> None:
        """Sleep for as long as the rate demands after `size` more bytes."""
        self._read += size
        if self._rate:
            ahead = self._read / self._rate - (self._seconds() - self._began)
            if ahead > 0:
                await asyncio.sleep(ahead)


class Verification:
    """Reads blobs and compares their digests, at a bounded rate.

    What was found, and up to where, is noted in the storage, so that another run goes on there.

    Args:
        storage: the tree.
        watcher: is told what is found.
        pace: bounds the rate.
        notes_sizes: whether the size of a blob is noted where it is not yet, once that is proved.

    Attributes:
        noted: how many sizes were noted.
    """

    def __init__(
        self, storage: Storage, watcher: Watcher, pace: Pace, *, notes_sizes: bool = False
    ) -> None:
        self._storage = storage
        self._watcher = watcher
        self._pace = pace
        self._notes_sizes = notes_sizes
        self._bad: list[Digest] = []
        self.noted = 0

    async def run(self, digests: Sequence[Digest], *, restart: bool) -> None:
        """Verify the blobs of `digests`, which are in order; those verified before are left out.

        Whatever ends it, a kill too, the next one goes on where it was.
        """
        cursor, bad = (None, list[Digest]()) if restart else await self._progress()
        if cursor is not None:
            self._watcher.resumed(cursor)
        await self.verify_again(bad)
        last, noted = cursor, time.monotonic()
        try:
            for digest in digests:
                if cursor is not None and digest <= cursor:
                    continue
                if not await self._verify(digest):
                    self._bad.append(digest)
                last = digest
                if time.monotonic() - noted >= NOTED_SECONDS:
                    await self._note(digest)
                    noted = time.monotonic()
        except BaseException:
            if last is not None:
                await self._note(last)
            raise
        with suppress(StorageError):  # there is none, or it can't be written either
            await self._storage.delete(layout.check_progress())

    async def verify_again(self, digests: Collection[Digest]) -> None:
        """Verify some blobs; what was wrong with them may have been healed."""
        self._bad += [digest for digest in sorted(digests) if not await self._verify(digest)]

    async def is_whole(self, digest: Digest, path: str) -> bool:
        """Return whether the bytes at `path` have `digest`.

        Raises:
            PathUnknownError: there is no file.
            StorageError: they can't be read.
        """
        reader = await self._storage.open(path)
        try:
            return await self._has_digest(reader, digest)
        finally:
            reader.close()

    async def note_size(self, digest: Digest) -> bool:
        """Note the size of a blob anew, if its bytes have its digest; return whether it is noted.

        Raises:
            PathUnknownError: there is no such blob.
            StorageError: it can't be read.
        """
        reader = await self._storage.open(layout.blob(digest))
        try:
            return await self._has_digest(reader, digest) and reader.note_size()
        finally:
            reader.close()

    async def _has_digest(self, reader: Reader, digest: Digest) -> bool:
        hasher = Hasher(digest.algorithm)
        forgotten = 0
        async for chunk in reader.read(0, reader.size):
            await in_thread(hasher.update, chunk)
            if hasher.size - forgotten >= FORGOTTEN or hasher.size == reader.size:
                reader.forget(forgotten, hasher.size)
                forgotten = hasher.size
            await self._pace.read(len(chunk))
        return hasher.digest() == digest

    async def _verify(self, digest: Digest) -> bool:
        """Return whether a blob is whole, or not there any more; tell if it is not."""
        path = layout.blob(digest)
        try:
            reader = await self._storage.open(path)
        except PathUnknownError:
            return True  # collected meanwhile; or no file, which is found without reading
        except StorageError as error:
            self._watcher.found(Problem(Kind.UNREACHABLE, path, "", digest, str(error)))
            return False
        try:
            whole = await self._has_digest(reader, digest)
            if whole and self._notes_sizes and reader.recorded_size is None and reader.note_size():
                self.noted += 1
        except StorageError as error:
            self._watcher.found(Problem(Kind.UNREACHABLE, path, "", digest, str(error)))
            return False
        finally:
            reader.close()
        self._watcher.blob(reader.size)
        if not whole:
            why = "its bytes have another digest"
            self._watcher.found(Problem(Kind.DAMAGED_BLOB, path, "", digest, why))
        return whole

    async def _progress(self) -> tuple[Digest | None, list[Digest]]:
        """Return up to where an earlier run came, and what it found; in doubt nothing."""
        try:
            content = await self._storage.get(layout.check_progress(), PROGRESS_LIMIT)
            noted = json.loads(content)
            return Digest.parse(noted["cursor"]), [Digest.parse(each) for each in noted["damaged"]]
        except (PathUnknownError, ObjectTooLargeError):
            return None, []
        except (ValueError, KeyError, TypeError, DigestInvalidError):
            return None, []

    async def _note(self, cursor: Digest) -> None:
        note = {"cursor": str(cursor), "damaged": [str(digest) for digest in self._bad]}
        try:
            await self._storage.put(layout.check_progress(), json.dumps(note).encode())
        except StorageError as error:  # a full disk is a reason to check
            structlog.get_logger().warning("how far the check came is not noted", err=str(error))
