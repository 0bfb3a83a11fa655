"""Blobs: reading, linking, mounting and unlinking them."""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from dockyard.core.leases import Leases
from dockyard.core.links import LinkDamagedError, damaged_link, read_link, write_link
from dockyard.core.trash import Trash
from dockyard.errors import BlobUnknownError, PathUnknownError, StorageError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.interface import Reader, Storage


STORED_BY: Final = "sha256"
"""What every blob is stored by, or else by what it is asked for: distribution knows no other."""


@dataclass(slots=True)
class Blob:
    """A blob opened for reading; whoever holds it closes it.

    Attributes:
        digest: the digest it was asked for by.
        size: its length in bytes.
        path: where it is in the storage.
    """

    digest: Digest
    size: int
    path: str
    _reader: Reader

    def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes of the half-open range."""
        return self._reader.read(start, stop)

    def close(self) -> None:
        """Release the blob. Repeating is harmless."""
        self._reader.close()


class Blobs:
    """The blobs of all repositories. A repository has a blob if, and only if, it has its link."""

    def __init__(self, storage: Storage, leases: Leases, trash: Trash) -> None:
        self._storage = storage
        self._leases = leases
        self._trash = trash

    async def open(self, name: str, digest: Digest) -> Blob:
        """Open a blob of the repository `name`.

        A blob whose length is not the one it was published with is reported as unknown, so that
        clients push it again, which heals it.

        Raises:
            BlobUnknownError: the repository has no such blob, or it is damaged.
        """
        try:
            target = await self._target(name, digest)
            reader = await self._open(target)
        except PathUnknownError as error:
            raise BlobUnknownError(str(digest)) from error
        except LinkDamagedError as error:
            raise BlobUnknownError(str(digest), damage="its link is damaged") from error
        damage = damage_of(reader, target)
        if damage is not None:
            reader.close()
            structlog.get_logger().error(
                "damaged blob: push it again to heal it", digest=str(digest), damage=damage
            )
            raise BlobUnknownError(str(digest), damage=damage)
        return Blob(digest, reader.size, layout.blob(target), reader)

    async def tell(self, name: str, digest: Digest, client: str = "") -> Blob:
        """Open a blob whose existence `client`, of repository `name`, is about to be told of.

        The blob is safe from collection for the grace period. Raises as `open` does.
        """
        # Who is told that it is not there relies on nothing.
        if not await self._storage.exists(layout.layer_link(name, digest)):
            raise BlobUnknownError(str(digest))
        target = digest
        if digest.algorithm != STORED_BY:
            with suppress(PathUnknownError, LinkDamagedError):  # looked at below, after the lease
                target = await self._target(name, digest)
        told = await self._lease(name, target, client)
        try:
            return await self.open(name, digest)
        except BlobUnknownError:
            if told:
                await self._withdraw(name, target, client)
            raise

    async def has(self, name: str, digest: Digest) -> bool:
        """Return whether the repository `name` has the blob, undamaged."""
        try:
            blob = await self.open(name, digest)
        except BlobUnknownError:
            return False
        blob.close()
        return True

    async def mount(self, name: str, digest: Digest, source: str | None, client: str = "") -> bool:
        """Give the repository `name` the blob of repository `source`, or of any if that is `None`.

        `client` is about to be told of it.

        Returns:
            Whether the blob was found; if not, nothing was changed.
        """
        if source is not None:
            try:
                target = await self._target(source, digest)
            except (PathUnknownError, LinkDamagedError):
                return False
        else:
            target = digest
        await self._leases.tell(name, target, client)
        if not await self._is_whole(target):
            await self._withdraw(name, target, client)
            return False
        await write_link(self._storage, layout.layer_link(name, digest), target)
        return True

    async def unlink(self, name: str, digest: Digest) -> None:
        """Move a repository's link to a blob to the trash; its bytes stay until collected.

        Raises:
            BlobUnknownError: the repository has no such blob.
        """
        link = layout.layer_link(name, digest)
        if not await self._storage.exists(link):  # its directory alone is what distribution leaves
            raise BlobUnknownError(str(digest))
        try:
            await self._trash.removal(name).add(link.removesuffix("/link"))
        except PathUnknownError as error:
            raise BlobUnknownError(str(digest)) from error

    async def _lease(self, name: str, target: Digest, client: str) -> bool:
        """Take a lease if that is possible; return whether it was."""
        try:
            await self._leases.tell(name, target, client)
        except StorageError as error:
            # A full or read-only disk must not keep anyone from pulling; pushing fails by itself.
            structlog.get_logger().warning("no lease", digest=str(target), err=str(error))
            return False
        return True

    async def _withdraw(self, name: str, target: Digest, client: str) -> None:
        """Give a lease back: there is nothing to tell of, and what is pushed then is told then."""
        try:
            await self._leases.withdraw(name, target, client)
        except StorageError as error:
            structlog.get_logger().warning("lease kept", digest=str(target), err=str(error))

    async def _target(self, name: str, digest: Digest) -> Digest:
        """Return the digest under which a repository's blob is stored.

        It is `digest` itself, or the sha256 of what distribution took by another algorithm.
        """
        path = layout.layer_link(name, digest)
        target = await read_link(self._storage, path)
        if target != digest and digest.algorithm in {target.algorithm, STORED_BY}:
            raise damaged_link(path, f"holds {target}")
        return target

    async def _open(self, target: Digest) -> Reader:
        """Open a blob's bytes, brought back if they are in the trash: somebody needs them."""
        try:
            return await self._storage.open(layout.blob(target))
        except PathUnknownError:
            if not await self._trash.bring_back(target):
                raise
            return await self._storage.open(layout.blob(target))

    async def _is_whole(self, digest: Digest) -> bool:
        try:
            reader = await self._open(digest)
        except PathUnknownError:
            return False
        damage = damage_of(reader, digest)
        reader.close()
        return damage is None


def damage_of(reader: Reader, digest: Digest) -> str | None:
    """Return what is wrong with a stored blob, as far as its length tells; `None`: nothing."""
    recorded = reader.recorded_size
    if recorded is not None and recorded != reader.size:
        return f"stored with {reader.size} bytes instead of {recorded}"
    if recorded is None and reader.size == 0 and digest != Digest.of(b"", digest.algorithm):
        return "stored without its bytes"
    return None
