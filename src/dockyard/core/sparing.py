"""Sparing: manifests without a tag that a collection leaves all the same, for a time."""

from collections.abc import Collection
from datetime import timedelta

from dockyard.clock import Clock, utc_now
from dockyard.errors import PathUnknownError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.interface import Storage


class Sparing:
    """Which untagged manifests are spared.

    * One that arrived within the grace period and never had a tag: it may be a platform of an index
      that is being pushed. One that a tag pointed to was left by it, by intention.
    * One that is pinned: it was pulled lately, so a cluster may go back to it.

    Args:
        storage: where the manifests are.
        grace: the grace period.
        pinned: manifests that were pulled lately, with their repositories.
        clock: tells the time.
    """

    def __init__(
        self,
        storage: Storage,
        grace: timedelta,
        pinned: Collection[tuple[str, Digest]] = (),
        clock: Clock = utc_now,
    ) -> None:
        self._storage = storage
        self._grace = grace
        self._pinned = frozenset(pinned)
        self._clock = clock

    async def spares(
        self, name: str, digest: Digest, tags: Collection[str], *, left: bool = False
    ) -> bool:
        """Return whether a manifest of the repository `name`, whose tags are `tags`, is spared.

        `left` says that a tag which is not there any more pointed to it.

        Raises:
            StorageError: that can't be told.
        """
        if (name, digest) in self._pinned:
            return True
        if left or not await self._is_young(name, digest):
            return False
        for tag in tags:
            if await self._storage.exists(layout.tag_index(name, tag, digest)):
                return False
        return True

    async def _is_young(self, name: str, digest: Digest) -> bool:
        try:
            arrived = await self._storage.modified(layout.revision_link(name, digest))
        except PathUnknownError:
            return False
        return self._clock() - arrived < self._grace
