"""Leases: what clients were told exists, and have not used yet.

A client that is told that a blob exists (its upload ended, a mount or a HEAD was answered) won't
push it again; it goes on to push a manifest that needs it. Until then nothing references the blob,
and the collector would take it. So whoever tells writes a lease *first*, and a manifest that
arrives takes one back. What is never taken back expires.

A lease is a small object for each blob and repository: ``+`` for each time a client was told, ``-``
for each manifest that arrived. Two clients that push the same blob at once keep it alive twice.
"""

from datetime import timedelta
from typing import Final

from dockyard.errors import PathUnknownError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.interface import Storage


GRACE: Final = timedelta(hours=1)
"""How long a client has to push the manifest for a blob it was told of, counted from the last time
anyone was: docker pushes the manifest seconds after the last layer, a slow last layer is an upload
in progress all the time, and its own end is told again."""

LEASE_LIMIT: Final = 64 << 10
"""Bytes of a lease that are looked at; one that grew longer is held until it expires."""


class Leases:
    """What was told of blobs, in all processes that share the storage."""

    def __init__(self, storage: Storage, grace: timedelta = GRACE) -> None:
        self._storage = storage
        self._grace = grace.total_seconds()

    async def tell(self, name: str, digest: Digest) -> None:
        """Note that a client of repository `name` is about to be told of a blob.

        To be called before looking whether the blob is there: see `dockyard.core.collector`.
        """
        await self._storage.note(layout.lease(digest, name), b"+")

    async def release(self, name: str, digest: Digest) -> None:
        """Note that a manifest in `name` references a blob now; not told of is no matter."""
        path = layout.lease(digest, name)
        if await self._is_held(path):
            await self._storage.note(path, b"-")

    async def is_held(self, digest: Digest) -> bool:
        """Return whether a client, of any repository, may still rely on the blob."""
        try:
            entries = await self._storage.list(layout.leases(digest))
        except PathUnknownError:
            return False
        for entry in entries:
            if await self._is_held(f"{layout.leases(digest)}/{entry.name}"):
                return True
        return False

    async def is_held_in(self, name: str, digest: Digest) -> bool:
        """Return whether a client of repository `name` may still rely on the blob."""
        return await self._is_held(layout.lease(digest, name))

    async def sweep(self) -> None:
        """Remove the leases that hold nothing any more."""
        root = f"{layout.PRIVATE}/leases"
        for algorithm in await self._names(root):
            for blob in await self._names(f"{root}/{algorithm}"):
                for name in await self._names(f"{root}/{algorithm}/{blob}"):
                    await self._drop(f"{root}/{algorithm}/{blob}/{name}")

    async def _drop(self, path: str) -> None:
        """Remove a lease that holds nothing; what is told at this moment is told again.

        Nobody misses it in between: leases are read by the collector alone, which is calling us.
        """
        if await self._is_held(path):
            return
        aside = f"{layout.PRIVATE}/trash/lease"
        try:
            before = await self._storage.get(path, LEASE_LIMIT)
            await self._storage.move(path, aside)
            after = await self._storage.get(aside, LEASE_LIMIT)
        except PathUnknownError:
            return
        if after != before:
            await self._storage.note(path, b"+")
        await self._storage.delete(aside)

    async def _names(self, path: str) -> list[str]:
        try:
            return [entry.name for entry in await self._storage.list(path)]
        except PathUnknownError:
            return []

    async def _is_held(self, path: str) -> bool:
        try:
            if await self._storage.age(path) > self._grace:
                return False
            marks = await self._storage.get(path, LEASE_LIMIT)
        except PathUnknownError:
            return False
        return marks.count(b"+") > marks.count(b"-")
