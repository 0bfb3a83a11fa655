"""Collection: giving back the room of what nothing needs, while everything goes on.

The invariant: *a blob that a manifest references, or that a client was told exists within the
grace period, is never lost.* It is held by an order of steps: whoever needs a blob writes that
down before looking whether the blob is there, and the collector takes a blob away before looking
whether anyone wrote that down. So of two that meet, at least one sees the other; and since the
collector takes a blob only to the trash, whoever sees it missing can bring it back.

* Whoever tells a client of a blob: lease, then look; missing: bring it back, or don't tell.
* Whoever stores a manifest: revision link, then look; missing: bring it back, or refuse.
* The collector: mark; move to the trash; look at leases and at manifests that came meanwhile, and
  bring back what they need; only then empty the trash.
* Whoever reads a blob through a link and misses it: bring it back.

What one file can't say is ordered by the repository's lock. The collector holds it alone while it
looks once more at one repository and drops manifests or links there; whoever tells, or stores a
manifest, shares it. A collector that is killed leaves blobs in the trash, where whoever needs them
finds them, and the next collector puts them back before it marks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from dockyard.core.leases import Leases
from dockyard.core.manifests import Manifests
from dockyard.core.marking import Marking, Observer
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
            if not dry_run:
                await self._trash.recover()
            marking = Marking(self._storage, observer, delete_untagged=delete_untagged)
            marks = await marking.run()
            candidates = await self._candidates(marking)
            observer.summary(len(marks.blobs), len(candidates), len(marks.untagged))
            result = Collected(manifests=list(marks.untagged), doubts=marks.doubts)
            if not dry_run:
                result.manifests = await self._drop_manifests(marking)
            for digest, size in candidates.items():
                if digest in marks.blobs or marks.everything:
                    continue  # a tag came to a manifest that was about to go
                observer.goes(digest, size)
                if dry_run or await self._take(digest, marking):
                    result.blobs[digest] = size
            if not dry_run:
                await self._second_look(marking, result)
                await self._unlink(marking, result, observer)
                await self._trash.empty(result.blobs)
                await self._leases.sweep()
            return result

    async def _candidates(self, marking: Marking) -> dict[Digest, int]:
        """Return the blobs that nothing is known to need, with their sizes."""
        found: dict[Digest, int] = {}
        marks = marking.marks
        if marks.everything:
            return found
        for digest in await self._stored(marking):
            if digest in marks.blobs or await self._leases.is_held(digest):
                continue
            try:
                found[digest] = await self._storage.size(layout.blob(digest))
            except PathUnknownError:
                continue  # an empty directory
            except StorageError as error:
                marking.tell(layout.blob(digest), error)
        return found

    async def _drop_manifests(self, marking: Marking) -> list[tuple[str, Digest]]:
        """Drop the manifests that nothing keeps, after another look with the repository's lock.

        A tag, an index or a referrer that came since the first look keeps what it needs.
        """
        untagged: dict[str, list[Digest]] = {}
        for name, digest in marking.marks.untagged:
            untagged.setdefault(name, []).append(digest)
        dropped: list[tuple[str, Digest]] = []
        for name, digests in untagged.items():
            try:
                async with self._storage.lock("repository", name):
                    for digest in await marking.reconsider(name, digests):
                        await self._manifests.drop(name, digest)
                        dropped.append((name, digest))
            except StorageError as error:  # the second look keeps those that stayed
                await marking.doubt(name, layout.manifests(name), error)
        return dropped

    async def _take(self, digest: Digest, marking: Marking) -> bool:
        path = layout.blob(digest)
        structlog.get_logger().info(f"Deleting blob: /{path.removesuffix('/data')}")
        try:
            await self._trash.take(digest)
        except PathUnknownError:
            return False  # somebody else removed it
        except StorageError as error:
            marking.tell(path, error)
            return False
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

    async def _unlink(
        self, marking: Marking, result: Collected, observer: CollectionObserver
    ) -> None:
        """Remove the links to blobs that went, where no client was told of them meanwhile."""
        gone = set(result.blobs)
        if not gone:
            return
        async for name in marking.names():
            for digest in await self._links(name, marking):
                if digest in gone and await self._unlink_one(name, digest):
                    observer.unlinks(name, digest)
                    result.links.append((name, digest))

    async def _unlink_one(self, name: str, digest: Digest) -> bool:
        """Remove a link to a blob that went; return whether that was done.

        With the repository's lock: whoever is told of the blob takes the lease before or after, and
        writes the link after that; whoever stores a manifest sees the link and the blob or neither.
        """
        path = layout.layer_link(name, digest)
        try:
            async with self._storage.lock("repository", name):
                held = await self._leases.is_held_in(name, digest)
                if held or await self._storage.exists(layout.blob(digest)):
                    return False  # it came back
                await self._storage.delete(path.removesuffix("/link"))
        except PathUnknownError:
            return False
        except StorageError as error:
            structlog.get_logger().warning("link not removed", path=path, err=str(error))
            return False
        return True

    async def _links(self, name: str, marking: Marking) -> list[Digest]:
        found: list[Digest] = []
        directory = f"{layout.repository(name)}/_layers"
        for algorithm in await self._names(directory, marking):
            for entry in await self._names(f"{directory}/{algorithm}", marking):
                try:
                    found.append(Digest.parse(f"{algorithm}:{entry}"))
                except DigestInvalidError:
                    continue
        return sorted(found)

    async def _stored(self, marking: Marking) -> list[Digest]:
        """Return the digests of all blobs, in the order of distribution's walk."""
        found: list[Digest] = []
        for algorithm in await self._names(layout.BLOBS, marking):
            for shard in await self._names(f"{layout.BLOBS}/{algorithm}", marking):
                for entry in await self._names(f"{layout.BLOBS}/{algorithm}/{shard}", marking):
                    try:
                        found.append(Digest.parse(f"{algorithm}:{entry}"))
                    except DigestInvalidError:
                        continue
        return sorted(found)

    async def _names(self, path: str, marking: Marking) -> list[str]:
        """Return the directories in `path`; what can't be listed is told of, and stays."""
        try:
            return [entry.name for entry in await self._storage.list(path) if entry.is_directory]
        except PathUnknownError:
            return []
        except StorageError as error:
            marking.tell(path, error)
            return []
