"""Collection: giving back the room of what nothing needs, while everything goes on.

The invariant: *a blob that a manifest references, or that a client was told exists within the
grace period, is never lost.* It is held by an order of steps: whoever needs a blob writes that down before
looking whether the blob is there, and the collector takes a blob away before looking whether
anyone wrote that down. So of two that meet, at least one sees the other; and since the collector
takes a blob only to the trash, whoever sees it missing can bring it back.

* Whoever tells a client of a blob: lease, then look; missing: bring it back, or don't tell.
* Whoever stores a manifest: revision link, then look; missing: bring it back, or refuse.
* The collector: mark; move to the trash; look at leases and at manifests that came meanwhile, and
  bring back what they need; only then empty the trash.
* Whoever reads a blob through a link and misses it: bring it back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from dockyard.core.leases import Leases
from dockyard.core.links import read_link, write_link
from dockyard.core.manifests import Manifests
from dockyard.core.marking import Marking, Marks, Observer
from dockyard.core.trash import Trash
from dockyard.errors import DigestInvalidError, PathUnknownError, StorageError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.interface import Storage


class CollectionObserver(Observer, Protocol):
    """Is told what a collection does, as it does it."""

    def summary(self, marked: int, blobs: int, manifests: int) -> None:
        """Marking is done; so much is kept, and so much goes."""
        ...

    def goes(self, digest: Digest, size: int) -> None:
        """A blob goes."""
        ...

    def unlinks(self, name: str, digest: Digest) -> None:
        """A repository's link to a blob goes."""
        ...


@dataclass(slots=True)
class Collected:
    """What a collection did, or would do.

    Attributes:
        blobs: the blobs that went, with their sizes in bytes.
        manifests: the manifests that went, with their repositories.
        links: the links to blobs that went, with their repositories.
        spared: blobs that were on their way out when somebody turned out to need them.
        doubts: what could not be read; all that it might need was kept.
    """

    blobs: dict[Digest, int] = field(default_factory=dict)
    manifests: list[tuple[str, Digest]] = field(default_factory=list)
    links: list[tuple[str, Digest]] = field(default_factory=list)
    spared: list[Digest] = field(default_factory=list)
    doubts: Sequence[str] = ()

    @property
    def freed(self) -> int:
        """Bytes that went."""
        return sum(self.blobs.values())


class Collector:
    """Collects what nothing needs."""

    def __init__(
        self, storage: Storage, manifests: Manifests, leases: Leases, trash: Trash
    ) -> None:
        self._storage = storage
        self._manifests = manifests
        self._leases = leases
        self._trash = trash

    async def run(
        self, observer: CollectionObserver, *, dry_run: bool, delete_untagged: bool
    ) -> Collected:
        """Collect once; return what went. The trash of this run is emptied at its end.

        One collection runs at a time among all processes.

        Raises:
            StorageBusyError: another one is running.
            StorageError: it could not go on; nothing is lost, what went is in the trash.
        """
        async with self._storage.lock("collect", "blobs"):
            marking = Marking(self._storage, observer, delete_untagged=delete_untagged)
            marks = await marking.run()
            candidates = await self._candidates(marks)
            observer.summary(len(marks.blobs), len(candidates), len(marks.untagged))
            result = Collected(manifests=list(marks.untagged), doubts=marks.doubts)
            if not dry_run:
                result.manifests = await self._drop_manifests(marks)
            for digest, size in candidates.items():
                observer.goes(digest, size)
                if dry_run or await self._take(digest):
                    result.blobs[digest] = size
            if not dry_run:
                await self._second_look(marking, result)
                await self._unlink(result, observer)
                await self._trash.empty(result.blobs)
                await self._leases.sweep()
            return result

    async def _candidates(self, marks: Marks) -> dict[Digest, int]:
        """Return the blobs that nothing is known to need, with their sizes."""
        found: dict[Digest, int] = {}
        if marks.everything:
            return found
        for digest in await self._stored():
            if digest in marks.blobs or await self._leases.is_held(digest):
                continue
            try:
                found[digest] = await self._storage.size(layout.blob(digest))
            except PathUnknownError:
                continue  # an empty directory
        return found

    async def _drop_manifests(self, marks: Marks) -> list[tuple[str, Digest]]:
        dropped = []
        for name, digest in marks.untagged:
            if await self._manifests.drop_untagged(name, digest):
                dropped.append((name, digest))
            else:
                marks.blobs.add(digest)
        return dropped

    async def _take(self, digest: Digest) -> bool:
        path = layout.blob(digest)
        structlog.get_logger().info(f"Deleting blob: /{path.removesuffix('/data')}")
        try:
            await self._trash.take(digest)
        except PathUnknownError:
            return False  # somebody else removed it
        return True

    async def _second_look(self, marking: Marking, result: Collected) -> None:
        """Bring back what turned out to be needed since it was marked."""
        await marking.run_again()
        for digest in list(result.blobs):
            needed = digest in marking.marks.blobs or marking.marks.everything
            if needed or await self._leases.is_held(digest):
                await self._trash.bring_back(digest)
                result.spared.append(digest)
                del result.blobs[digest]

    async def _unlink(self, result: Collected, observer: CollectionObserver) -> None:
        """Remove the links to blobs that went, where no client was told of them meanwhile."""
        gone = set(result.blobs)
        if not gone:
            return
        async for name in Marking(self._storage, observer, delete_untagged=False).names():
            for digest in await self._links(name):
                if digest in gone and await self._unlink_one(name, digest):
                    observer.unlinks(name, digest)
                    result.links.append((name, digest))

    async def _unlink_one(self, name: str, digest: Digest) -> bool:
        path = layout.layer_link(name, digest)
        try:
            target = await read_link(self._storage, path)
            await self._storage.delete(path.removesuffix("/link"))
        except PathUnknownError:
            return False
        except StorageError as error:
            structlog.get_logger().warning("link not removed", path=path, err=str(error))
            return False
        if await self._leases.is_held_in(name, digest):
            await write_link(self._storage, path, target)
            return False
        return True

    async def _links(self, name: str) -> list[Digest]:
        found: list[Digest] = []
        directory = f"{layout.repository(name)}/_layers"
        for algorithm in await self._names(directory):
            for entry in await self._names(f"{directory}/{algorithm}"):
                try:
                    found.append(Digest.parse(f"{algorithm}:{entry}"))
                except DigestInvalidError:
                    continue
        return sorted(found)

    async def _stored(self) -> list[Digest]:
        """Return the digests of all blobs, in the order of distribution's walk."""
        found: list[Digest] = []
        for algorithm in await self._names(layout.BLOBS):
            for shard in await self._names(f"{layout.BLOBS}/{algorithm}"):
                for entry in await self._names(f"{layout.BLOBS}/{algorithm}/{shard}"):
                    try:
                        found.append(Digest.parse(f"{algorithm}:{entry}"))
                    except DigestInvalidError:
                        continue
        return sorted(found)

    async def _names(self, path: str) -> list[str]:
        try:
            return [entry.name for entry in await self._storage.list(path) if entry.is_directory]
        except PathUnknownError:
            return []
