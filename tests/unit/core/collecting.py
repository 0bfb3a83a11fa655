"""A registry's tree to collect from, a clock to set, and who is told of what is collected."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Final

from typing_extensions import override

from dockyard.clock import utc_now
from dockyard.core.collector import Collected, Collector, Plan
from dockyard.core.leases import Leases
from dockyard.core.manifests import ManifestPush, Manifests
from dockyard.core.sparing import Sparing
from dockyard.core.trash import Item, Trash
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.interface import Storage
from tests.api.registry import services_on
from tests.parts.collection import Silent
from tests.parts.images import Image


WEEK: Final = timedelta(days=7)


class Watch:
    """A clock that a test sets forward: the storage counts real time."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


class Seen(Silent):
    """Keeps what it is told of doubts."""

    def __init__(self) -> None:
        self.doubts: list[str] = []

    @override
    def doubt(self, path: str, reason: str) -> None:
        assert reason
        self.doubts.append(path)


class Tree:
    """A registry's tree, with nobody told of anything.

    Args:
        storage: where it is.
        keep: how long what is removed can be restored.
    """

    def __init__(self, storage: Storage, keep: timedelta = timedelta(0)) -> None:
        self.storage = storage
        self.watch = Watch()
        self.services = services_on(storage, keep=keep, clock=self.watch)
        self.removals = self.services.removals
        self.seen = Seen()
        self._keep = keep

    async def push(self, name: str, top: Image, *tags: str) -> None:
        for each in top.everything():
            for content in each.blobs:
                digest = Digest.parse(content.digest)
                await self.services.uploads.store(name, digest, once(content.body))
            references = tags if each is top else ()
            push = ManifestPush(
                name, each.manifest.body, each.manifest.media_type, None, references
            )
            await self.services.manifests.put(push)

    async def delete(self, name: str, top: Image) -> None:
        await self.services.manifests.delete(name, Digest.parse(top.digest))

    async def collect(
        self,
        *,
        untagged: bool = False,
        leases: bool = False,
        keep: timedelta | None = None,
        **plan: object,
    ) -> Collected:
        """Collect once.

        Args:
            untagged: whether manifests go that nothing keeps.
            leases: whether leases of the last hour count.
            keep: how long items of the trash are kept; without it as long as the tree's.
            plan: other fields of the `Plan`.
        """
        grace = timedelta(hours=1 if leases else -1)
        trash = Trash(self.storage, self._keep if keep is None else keep, self.watch)
        manifests: Manifests = services_on(
            self.storage, keep=self._keep if keep is None else keep, clock=self.watch
        ).manifests
        collector = Collector(self.storage, manifests, Leases(self.storage, grace), trash)
        return await collector.run(self.seen, Plan(delete_untagged=untagged, **plan))  # type: ignore[arg-type]

    def sparing(self, grace: timedelta, *pinned: tuple[str, Digest]) -> Sparing:
        """Return the sparing of what is younger than `grace` or `pinned`."""
        return Sparing(self.storage, grace, pinned, self.watch)

    async def items(self) -> list[Item]:
        """Return what can be restored."""
        return await self.removals.items()

    async def blobs(self) -> set[str]:
        """Return the digests of all stored blobs."""
        directory = f"{layout.BLOBS}/sha256"
        if not await self.storage.exists(directory):
            return set()
        return {
            f"sha256:{entry.name}"
            for shard in await self.storage.list(directory)
            for entry in await self.storage.list(f"{directory}/{shard.name}")
        }

    async def in_trash(self) -> set[str]:
        """Return the digests of the blobs that are in the trash."""
        return {str(digest) for digest in await Trash(self.storage).blobs()}

    async def manifests(self, name: str) -> set[str]:
        directory = f"{layout.revisions(name)}/sha256"
        if not await self.storage.exists(directory):
            return set()
        return {f"sha256:{entry.name}" for entry in await self.storage.list(directory)}


async def once(body: bytes) -> AsyncIterator[list[bytes]]:
    """Yield `body`."""
    yield [body]
