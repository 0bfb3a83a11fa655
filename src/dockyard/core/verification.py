"""Verification: whether each blob's bytes have its digest, in pieces that can be interrupted."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from dockyard.core.integrity import Watcher
from dockyard.core.problems import Kind, Problem
from dockyard.errors import DigestInvalidError, PathUnknownError, StorageError
from dockyard.oci.digest import Digest, Hasher
from dockyard.storage import layout
from dockyard.storage.interface import ObjectTooLargeError, Storage
from dockyard.threads import in_thread


NOTED_SECONDS: Final = 5.0
"""Seconds between two notes of how far it has come: so much is read again after a kill."""

PROGRESS_LIMIT: Final = 1 << 20
"""Bytes of that note: a cursor and some thousand damaged digests."""


class Verification:
    """Reads blobs and compares their digests, at a bounded rate.

    What was found, and up to where, is noted in the storage, so that another run goes on there.

    Args:
        storage: the tree.
        watcher: is told what is found.
        rate: bytes read in a second at most; zero: as fast as it goes.
        seconds: tells the seconds that have passed.
    """

    def __init__(
        self,
        storage: Storage,
        watcher: Watcher,
        rate: int,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._watcher = watcher
        self._rate = rate
        self._seconds = seconds
        self._damaged: list[Digest] = []
        self._read = 0
        self._began = seconds()

    async def run(self, digests: Sequence[Digest], *, restart: bool) -> None:
        """Verify the blobs of `digests`, which are in order; those verified before are left out."""
        cursor, damaged = (None, list[Digest]()) if restart else await self._noted()
        self._damaged = damaged
        for digest in damaged:
            await self._verify(digest)  # it may have been healed
        noted = self._seconds()
        for digest in digests:
            if cursor is not None and digest <= cursor:
                continue
            if not await self._verify(digest):
                self._damaged.append(digest)
            if self._seconds() - noted >= NOTED_SECONDS:
                await self._note(digest)
                noted = self._seconds()
        with suppress(PathUnknownError):
            await self._storage.delete(layout.check_progress())

    async def is_whole(self, digest: Digest, path: str) -> bool:
        """Return whether the bytes at `path` have `digest`.

        Raises:
            StorageError: they can't be read.
        """
        hasher = Hasher(digest.algorithm)
        reader = await self._storage.open(path)
        try:
            async for chunk in reader.read(0, reader.size):
                await in_thread(hasher.update, chunk)
                await self._pause(len(chunk))
        finally:
            reader.close()
        return hasher.digest() == digest

    async def _verify(self, digest: Digest) -> bool:
        path = layout.blob(digest)
        try:
            size = await self._storage.size(path)
            whole, why = await self.is_whole(digest, path), "its bytes have another digest"
        except PathUnknownError:
            return True  # collected meanwhile
        except StorageError as error:
            self._watcher.found(Problem(Kind.UNREACHABLE, path, "", digest, str(error)))
            return True
        self._watcher.blob(size)
        if not whole:
            self._watcher.found(Problem(Kind.DAMAGED_BLOB, path, "", digest, why))
        return whole

    async def _pause(self, read: int) -> None:
        """Sleep for as long as the rate demands."""
        self._read += read
        if self._rate:
            ahead = self._read / self._rate - (self._seconds() - self._began)
            if ahead > 0:
                await asyncio.sleep(ahead)

    async def _noted(self) -> tuple[Digest | None, list[Digest]]:
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
        note = {"cursor": str(cursor), "damaged": [str(digest) for digest in self._damaged]}
        await self._storage.put(layout.check_progress(), json.dumps(note).encode())
