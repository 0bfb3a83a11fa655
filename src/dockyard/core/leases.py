"""Leases: what clients were told exists, and have not used yet.

A client that is told that a blob exists (its upload ended, a mount or a HEAD was answered) won't
push it again; it goes on to push a manifest that needs it. Until then nothing references the blob,
and the collector would take it. So whoever tells writes a lease *first*, and a manifest that
arrives takes it back. What is never taken back expires.

A lease is a small object for each blob and repository, of marks that are only ever added, each with
a hash of who the client is: ``+`` it was told, ``~`` it was not told after all, ``-`` its manifest
arrived, so it relies on nothing it was told before. Clients are told apart by address and name of
their program: docker, which asks by HEAD for what it has just uploaded, takes both back by one
manifest. Two pushes of the same blob to the same repository by one such client at once are taken
for one; the later one is refused if all manifests with the blob are deleted and collected in the
moment before its manifest arrives. Nothing that was acknowledged is lost.

Telling holds the repository's lock in passing, and whoever acts on nobody having been told (the
collector, before it removes a lease or a link) holds it alone from looking to acting.
"""

from collections.abc import Collection, Mapping
from datetime import timedelta
from hashlib import sha256
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

MARK_LENGTH: Final = 9
"""Bytes of a mark: what happened, and eight hexadecimals of the client's hash."""

LEASE_LIMIT: Final = 64 << 10
"""Bytes of a lease that are looked at; one that grew longer is held until it expires: the blob was
told of thousands of times since a collection last removed the lease."""


TAIL: Final = 1 << 10
"""Bytes at the end of a lease that a manifest looks at: what was told after the last one came. What
is before them counts as told of, which at worst adds a mark for nothing."""


class Leases:
    """What was told of blobs, in all processes that share the storage."""

    def __init__(self, storage: Storage, grace: timedelta = GRACE) -> None:
        self._storage = storage
        self._grace = grace.total_seconds()

    async def tell(self, name: str, digest: Digest, client: str = "") -> None:
        """Note that `client`, of repository `name`, is about to be told of a blob.

        To be called before writing the repository's link to the blob, and before looking whether
        the link and the blob are there: see `dockyard.core.collector`.
        """
        async with self._storage.lock("repository", name, shared=True):
            await self._storage.note(layout.lease(digest, name), _mark("+", client))

    def tell_at_once(self, name: str, digest: Digest, client: str = "") -> bool:
        """Note what `tell` does, if nothing has to be waited for; return whether that was done.

        Where a blob has no lease yet it is not: `tell` makes one.
        """
        return self._note_at_once("+", name, digest, client)

    async def withdraw(self, name: str, digest: Digest, client: str = "") -> None:
        """Note that `client` was not told of a blob after all, once of the times it was to be."""
        await self._storage.note(layout.lease(digest, name), _mark("~", client))

    def withdraw_at_once(self, name: str, digest: Digest, client: str = "") -> None:
        """Note what `withdraw` does, if nothing has to be waited for; else the lease expires."""
        self._note_at_once("~", name, digest, client)

    async def release(
        self, name: str, digests: Collection[Digest], client: str = ""
    ) -> Mapping[Digest, StorageError]:
        """Note that a manifest of `client` in `name` references the blobs now.

        That nobody was told of them is no matter.

        Returns:
            For each blob of which that could not be noted why that is so; its lease expires.
        """
        told, released = _mark("+", client), _mark("-", client)

        def amendment(marks: bytes, is_all: bool) -> bytes:  # noqa: FBT001 -- see `Amendment`
            # No other mark has these bytes in its middle: none begins with a hexadecimal.
            last = marks.rfind(released)
            is_told = marks.find(told, last + 1) >= 0 or not (is_all or last >= 0)
            return released if is_told else b""

        paths = {layout.lease(digest, name): digest for digest in digests}
        failed = await self._storage.amend(list(paths), TAIL, amendment)
        return {paths[path]: error for path, error in failed.items()}

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

    async def held(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of `digests` that a client may still rely on, by few looks at the storage.

        What can't be read is taken for held.
        """
        leased: dict[str, set[str] | None] = {}
        for algorithm in {digest.algorithm for digest in digests}:
            directory = f"{layout.PRIVATE}/leases/{algorithm}"
            try:
                leased[algorithm] = {entry.name for entry in await self._storage.list(directory)}
            except PathUnknownError:
                leased[algorithm] = set()
            except StorageError:
                leased[algorithm] = None
        found: set[Digest] = set()
        for digest in digests:
            names = leased[digest.algorithm]
            if names is None or (digest.hex in names and await self.is_held(digest)):
                found.add(digest)
        return found

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

    def _note_at_once(self, what: str, name: str, digest: Digest, client: str) -> bool:
        path, lock = layout.lease(digest, name), ("repository", name)
        return self._storage.note_at_once(path, _mark(what, client), lock)

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
        return _relies(marks)


def _mark(what: str, client: str) -> bytes:
    return f"{what}{sha256(client.encode()).hexdigest()[: MARK_LENGTH - 1]}".encode()


def _relies(marks: bytes) -> bool:
    """Return whether any client relies on what it was told."""
    times: dict[bytes, int] = {}
    for start in range(0, len(marks), MARK_LENGTH):
        what, client = marks[start : start + 1], marks[start + 1 : start + MARK_LENGTH]
        if what == b"-":
            times[client] = 0
        else:
            times[client] = max(0, times.get(client, 0) + (1 if what == b"+" else -1))
    return any(times.values())
