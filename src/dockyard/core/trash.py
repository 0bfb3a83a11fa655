"""The trash: collected blobs, until they are destroyed."""

from collections.abc import Iterable

import structlog

from dockyard.errors import PathUnknownError
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
        """Put a blob back if it is in the trash; return whether it is in its place now."""
        try:
            await self._storage.move(layout.trash_blob(digest), layout.blob(digest))
        except PathUnknownError:
            return await self._storage.exists(layout.blob(digest))
        structlog.get_logger().info("brought back from the trash", digest=str(digest))
        return True

    async def empty(self, digests: Iterable[Digest]) -> None:
        """Destroy blobs that are in the trash; those that were brought back stay."""
        for digest in digests:
            try:
                await self._storage.delete(layout.trash_blob(digest))
            except PathUnknownError:
                continue
