"""The trash: collected blobs, until they are destroyed."""

from collections.abc import Iterable

import structlog

from dockyard.errors import DigestInvalidError, PathUnknownError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.interface import Storage


class Trash:
    """Blobs that were taken away and can be brought back. Each step is one rename."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def take(self, digest: Digest) -> None:
        """Take a blob away.

        Raises:
            PathUnknownError: it is not there.
        """
        await self._storage.move(layout.blob(digest), layout.trash_blob(digest))

    async def bring_back(self, digest: Digest) -> bool:
        """Put a blob back if it is in the trash; return whether it is in its place now.

        One that was pushed again meanwhile stays as it is: it may have been pushed to heal it.
        """
        # Looked at first: on a read-only file system even moving what is not there is an error.
        in_trash = await self._storage.exists(layout.trash_blob(digest))
        if not in_trash or await self._storage.exists(layout.blob(digest)):
            return await self._storage.exists(layout.blob(digest))
        try:
            await self._storage.move(layout.trash_blob(digest), layout.blob(digest))
        except PathUnknownError:
            return await self._storage.exists(layout.blob(digest))
        structlog.get_logger().info("brought back from the trash", digest=str(digest))
        return True

    async def recover(self) -> None:
        """Put back what a collection that was killed had taken; the next one judges it anew."""
        for algorithm in await self._names(layout.trash_blobs("").rstrip("/")):
            for entry in await self._names(layout.trash_blobs(algorithm)):
                try:
                    digest = Digest.parse(f"{algorithm}:{entry}")
                except DigestInvalidError:
                    continue  # not ours
                await self.bring_back(digest)
                await self.empty([digest])  # where it had been pushed again

    async def _names(self, path: str) -> list[str]:
        try:
            return [entry.name for entry in await self._storage.list(path)]
        except PathUnknownError:
            return []

    async def empty(self, digests: Iterable[Digest]) -> None:
        """Destroy blobs that are in the trash; those that were brought back stay."""
        for digest in digests:
            try:
                await self._storage.delete(layout.trash_blob(digest))
            except PathUnknownError:
                continue
