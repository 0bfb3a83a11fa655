"""Leases: what clients were told exists, and have not used yet.

A client that is told that a blob exists (its upload ended, a mount or a HEAD was answered) won't
push it again; it goes on to push a manifest that needs it. Until then nothing references the blob,
and the collector would take it. So whoever tells writes a lease *first*, and a manifest that
arrives takes one back. What is never taken back expires.

A lease is a small object for each blob and repository: ``+`` for each time a client was told, ``-``
for each manifest that arrived. Two clients that push the same blob at once keep it alive twice.
They can't be told apart, though: a client that pushes more manifests than it was told of the blob
takes another one's lease back. That other one's manifest is refused if all manifests with the blob
are deleted and collected in the moment before it arrives; nothing that was acknowledged is lost.

Telling holds the repository's lock in passing, and whoever acts on nobody having been told (the
collector, before it removes a lease or a link) holds it alone from looking to acting.
"""

from datetime import timedelta
from typing import Final

import structlog

from dockyard.errors import PathUnknownError, StorageError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.interface import Storage


GRACE: Final = timedelta(hours=1)
"""How long a client has to push the manifest for a blob it was told of, counted from the last time
anyone was: docker pushes the manifest seconds after the last layer, a slow last layer is an upload
in progress all the time, and its own end is told again."""

TOLD: Final = ord("+")
"""The mark of a client that was told; any other is one that relies on it no more."""

LEASE_LIMIT: Final = 64 << 10
"""Bytes of a lease that are looked at; one that grew longer is held until it expires: the blob was
told of thousands of times since a collection last removed the lease."""


class Leases:
    """What was told of blobs, in all processes that share the storage."""

    def __init__(self, storage: Storage, grace: timedelta = GRACE) -> None:
        self._storage = storage
        self._grace = grace.total_seconds()

    async def tell(self, name: str, digest: Digest) -> None:
        """Note that a client of repository `name` is about to be told of a blob.

        To be called before writing the repository's link to the blob, and before looking whether
        the link and the blob are there: see `dockyard.core.collector`.
        """
        async with self._storage.lock("repository", name, shared=True):
            await self._storage.note(layout.lease(digest, name), b"+")

    async def release(self, name: str, digest: Digest) -> None:
        """Note that a client of `name` doesn't rely on a lease any more.

        A manifest that references the blob is there now, or the client was not told of it after
        all. That nobody was told of it is no matter.
        """
        path = layout.lease(digest, name)
        if await self._is_held(path):
            await self._storage.note(path, b"-")

    async def is_held(self, digest: Digest) -> bool:
        """Return whether a client, of any repository, may still rely on the blob.

        What can't be read is taken for held.
        """
        try:
            entries = await self._storage.list(layout.leases(digest))
        except PathUnknownError:
            return False
        except StorageError:
            return True
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
                for entry in await self._names(f"{root}/{algorithm}/{blob}"):
                    await self._drop(f"{root}/{algorithm}/{blob}", entry)

    async def _drop(self, directory: str, entry: str) -> None:
        """Remove a lease that holds nothing."""
        path, aside = f"{directory}/{entry}", f"{layout.PRIVATE}/trash/lease"
        if await self._is_held(path):
            return
        try:
            async with self._storage.lock("repository", layout.leaseholder(entry)):
                if not await self._is_held(path):
                    # Moving takes the blob's directory along with the last lease in it.
                    await self._storage.move(path, aside)
                    await self._storage.delete(aside)
        except PathUnknownError:
            return
        except StorageError as error:  # it is removed another time
            structlog.get_logger().warning("lease not removed", path=path, err=str(error))

    async def _names(self, path: str) -> list[str]:
        try:
            return [entry.name for entry in await self._storage.list(path)]
        except StorageError:  # there are none, or they are swept another time
            return []

    async def _is_held(self, path: str) -> bool:
        try:
            if await self._storage.age(path) > self._grace:
                return False
            marks = await self._storage.get(path, LEASE_LIMIT)
        except PathUnknownError:
            return False
        except StorageError:  # too long, or not readable: in doubt it is held
            return True
        clients = 0
        for mark in marks:
            # Never below none: two manifests that arrive at once may take one lease back twice.
            clients = clients + 1 if mark == TOLD else max(0, clients - 1)
        return clients > 0
