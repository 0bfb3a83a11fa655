"""Collection: giving back the room of what nothing needs, while everything goes on.

The invariant: *a blob that a manifest references, or that a client was told exists within the
grace period, is never lost.* It is held by an order of steps: whoever needs a blob writes that
down before looking whether the blob is there, and the collector takes a blob away before looking
whether anyone wrote that down. So of two that meet, at least one sees the other; and since the
collector takes a blob only to the trash, whoever sees it missing can bring it back.

* Whoever tells a client of a blob: lease, then look; missing: bring it back, or don't tell.
* Whoever stores a manifest: revision link, then look; missing: bring it back, or refuse.
* The collector: mark; move to the trash; look at leases and at manifests that came meanwhile, and
  bring back what they need; only then destroy what was in the trash long enough.
* Whoever reads a blob through a link and misses it: bring it back.

What one file can't say is ordered by the repository's lock. The collector holds it alone while it
looks once more at one repository and drops manifests or links there; whoever tells, or stores a
manifest, shares it. A collector that is killed leaves blobs in the trash, where whoever needs them
finds them; the next one brings back what its marks need, and judges the rest as its own. That is
safe without another look: who came to need them since looks for them after they were taken.
"""

from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol, TypeVar

import structlog

from dockyard.core.leases import Leases
from dockyard.core.manifests import Manifests
from dockyard.core.marking import Marking, Rules
from dockyard.core.marks import Observer
from dockyard.core.pace import Pace
from dockyard.core.sparing import Sparing
from dockyard.core.trash import Trash, digests_of
from dockyard.errors import PathUnknownError, StorageError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.interface import Storage


T = TypeVar("T")

BATCH: Final = 1024
"""Blobs taken away between two looks at the pace."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a collection is to be done.

    Attributes:
        dry_run: whether it only finds out what would go.
        delete_untagged: whether manifests go that no tag, index or subject keeps.
        sparing: says which of these stay for a time; `None`: none.
        delay: how long blobs stay in the trash before they are destroyed.
        pace: how much of the process's time it takes.
    """

    dry_run: bool = False
    delete_untagged: bool = False
    sparing: Sparing | None = None
    delay: timedelta = timedelta(0)
    pace: Pace = field(default_factory=Pace)


@dataclass(slots=True)
class Collected:
    """What a collection did, or would do.

    Attributes:
        blobs: the blobs that went, with their sizes in bytes.
        destroyed: those of `blobs` that are not in the trash any more.
        manifests: the manifests that went, with their repositories.
        links: the links to blobs that went, with their repositories.
        spared: blobs that were on their way out when somebody turned out to need them.
        expired: items of the trash that were destroyed, having been kept long enough.
        doubts: what could not be read; all that it might need was kept.
    """

    blobs: dict[Digest, int] = field(default_factory=dict)
    destroyed: Collection[Digest] = ()
    manifests: list[tuple[str, Digest]] = field(default_factory=list)
    links: list[tuple[str, Digest]] = field(default_factory=list)
    spared: list[Digest] = field(default_factory=list)
    expired: Sequence[str] = ()
    doubts: Sequence[str] = ()

    @property
    def size(self) -> int:
        """Bytes of the blobs that went."""
        return sum(self.blobs.values())

    @property
    def freed(self) -> int:
        """Bytes of those that were destroyed, or would be."""
        return sum(self.blobs[digest] for digest in self.destroyed)


@dataclass(frozen=True, slots=True)
class _Run:
    """One collection.

    Attributes:
        left: blobs that were in the trash when it began.
    """

    observer: CollectionObserver
    plan: Plan
    marking: Marking
    result: Collected
    left: frozenset[Digest]


class Collector:
    """Collects what nothing needs.

    Args:
        storage: where the blobs are.
        manifests: drops those that go.
        leases: what clients were told of.
        trash: where what goes is moved first; how long it keeps what was removed is its own matter.
    """

    def __init__(
        self, storage: Storage, manifests: Manifests, leases: Leases, trash: Trash
    ) -> None:
        self._storage = storage
        self._manifests = manifests
        self._leases = leases
        self._trash = trash

    async def run(self, observer: CollectionObserver, plan: Plan) -> Collected:
        """Collect once; return what went.

        One collection runs at a time among all processes.

        Raises:
            StorageBusyError: another one is running.
            StorageError: it could not go on; nothing is lost, what went is in the trash.
        """
        async with self._storage.lock("collect", "blobs"):
            left_by_tags: set[tuple[str, Digest]] = set()
            rules = Rules(
                delete_untagged=plan.delete_untagged,
                sparing=plan.sparing,
                trash=self._trash,
                left=left_by_tags,
                pace=plan.pace,
            )
            marking = Marking(self._storage, observer, rules)
            if plan.delete_untagged:
                left_by_tags |= await self._told(self._trash.left(), marking, set())
            expired = await self._expire(marking, plan)
            marks = await marking.run()
            left = [] if marks.everything else await self._left(marking)
            candidates = await self._candidates(marking, left)
            observer.summary(len(marks.blobs), len(candidates), len(marks.untagged))
            result = Collected(manifests=list(marks.untagged), doubts=marks.doubts, expired=expired)
            run = _Run(observer, plan, marking, result, frozenset(left))
            if not plan.dry_run:
                result.manifests = await self._drop_manifests(marking)
            await self._take(run, candidates)
            if not plan.dry_run:
                await self._second_look(run)
            await self._unlink(run)
            if not plan.dry_run:
                await self._empty(run)
                await self._leases.sweep()
            return result

    async def _expire(self, marking: Marking, plan: Plan) -> list[str]:
        """Destroy the items of the trash that were kept long enough; return their names.

        One that can't be destroyed keeps what it needs, as all do that are there.
        """
        over = await self._told(self._trash.over(), marking, [])
        if plan.dry_run:
            marking.discarded.leave_out(over)
            return over
        gone = list[str]()
        for identifier in over:
            try:
                await self._trash.destroy(identifier)
            except PathUnknownError:
                continue  # restored or destroyed by another
            except StorageError as error:
                marking.tell(layout.trash_item(identifier), error)
            else:
                gone.append(identifier)
        return gone

    @staticmethod
    async def _told(items: Awaitable[T], marking: Marking, otherwise: T) -> T:
        """Return what is asked of the trash's items; if they can't be read, tell of that."""
        try:
            return await items
        except StorageError as error:
            marking.tell(layout.trash_items(), error)
            return otherwise

    async def _left(self, marking: Marking) -> list[Digest]:
        """Return the blobs that an earlier collection took and did not destroy.

        Those that turned out to be needed are brought back: it was killed, or their links came
        back from elsewhere, such as a backup.
        """
        left: list[Digest] = []
        try:
            blobs = await self._trash.blobs()
        except StorageError as error:
            marking.tell(layout.trash_blobs("").rstrip("/"), error)
            return left
        for digest in blobs:
            if digest not in marking.marks.blobs and not await self._leases.is_held(digest):
                left.append(digest)
            elif await self._trash.bring_back(digest):
                await self._trash.empty([digest])  # where it had been pushed again
        return left

    async def _candidates(self, marking: Marking, left: Collection[Digest]) -> dict[Digest, int]:
        """Return the blobs that nothing is known to need, with their sizes."""
        found: dict[Digest, int] = {}
        marks = marking.marks
        if marks.everything:
            return found
        stored = await self._stored(marking)
        unmarked = sorted({*stored, *left} - marks.blobs)
        held = await self._leases.held(unmarked)
        for digest in unmarked:
            if digest in held:
                continue
            await marking.pace.step()
            try:
                found[digest] = await self._size(digest)
            except PathUnknownError:
                continue  # an empty directory
            except StorageError as error:
                marking.tell(layout.blob(digest), error)
        return found

    async def _size(self, digest: Digest) -> int:
        try:
            return await self._storage.size(layout.blob(digest))
        except PathUnknownError:
            return await self._trash.size(digest)

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
                    going = await marking.reconsider(name, digests)
                    await self._manifests.drop(name, going)
                    dropped += [(name, digest) for digest in going]
            except StorageError as error:  # the second look keeps those that stayed
                await marking.doubt(name, layout.manifests(name), error)
        return dropped

    async def _take(self, run: "_Run", candidates: Mapping[Digest, int]) -> None:
        """Take the candidates away, or, in a dry run, only tell of them."""
        marks, going = run.marking.marks, list[Digest]()
        for digest in candidates:
            # A tag may have come to a manifest that was about to go.
            if digest not in marks.blobs and not marks.everything:
                run.observer.goes(digest, candidates[digest])
                going.append(digest)
        taken = set(going)
        if not run.plan.dry_run:
            taken = await self._take_away(going, run)
        run.result.blobs = {digest: candidates[digest] for digest in going if digest in taken}
        run.result.destroyed = frozenset(taken) if run.plan.dry_run else ()

    async def _take_away(self, going: Sequence[Digest], run: "_Run") -> set[Digest]:
        """Move blobs to the trash; return those that are there now."""
        taken: set[Digest] = set()
        for start in range(0, len(going), BATCH):
            await run.plan.pace.step()
            batch = going[start : start + BATCH]
            for digest in batch:
                path = layout.blob(digest).removesuffix("/data")
                structlog.get_logger().info(f"Deleting blob: /{path}")
            for digest, error in (await self._trash.take_all(batch)).items():
                if error is None or (digest in run.left and isinstance(error, PathUnknownError)):
                    taken.add(digest)
                elif not isinstance(error, PathUnknownError):  # else somebody else removed it
                    run.marking.tell(layout.blob(digest), error)
        return taken

    async def _second_look(self, run: "_Run") -> None:
        """Bring back what turned out to be needed since it was marked."""
        marks, result = run.marking.marks, run.result
        await run.marking.run_again()
        held = await self._leases.held(result.blobs)
        for digest in list(result.blobs):
            if digest in marks.blobs or marks.everything or digest in held:
                await self._trash.bring_back(digest)
                result.spared.append(digest)
                del result.blobs[digest]

    async def _unlink(self, run: "_Run") -> None:
        """Remove the links to blobs that went, where no client was told of them meanwhile."""
        gone = set(run.result.blobs)
        if not gone:
            return
        async for name in run.marking.names():
            await run.plan.pace.step()
            links = [digest for digest in await self._links(name, run.marking) if digest in gone]
            if links and not run.plan.dry_run:
                links = await self._unlink_from(name, links)
            for digest in links:
                run.observer.unlinks(name, digest)
                run.result.links.append((name, digest))

    async def _unlink_from(self, name: str, digests: Sequence[Digest]) -> list[Digest]:
        """Remove a repository's links to blobs that went; return those that were removed.

        With the repository's lock: whoever is told of a blob takes the lease before or after, and
        writes the link after that; whoever stores a manifest sees the link and the blob or neither.
        """
        try:
            async with self._storage.lock("repository", name):
                links = [
                    digest
                    for digest in digests
                    if not await self._leases.is_held_in(name, digest)
                    and not await self._storage.exists(layout.blob(digest))  # it came back
                ]
                await self._storage.delete_all([layout.layer_link(name, each) for each in links])
        except StorageError as error:
            structlog.get_logger().warning(
                "links not removed", path=layout.repository(name), err=str(error)
            )
            return []
        return links

    async def _empty(self, run: "_Run") -> None:
        """Destroy what was in the trash long enough."""
        over = [
            digest
            for digest in run.result.blobs
            if await self._trash.is_older(digest, run.plan.delay)
        ]
        await self._trash.empty(over)
        run.result.destroyed = frozenset(over)

    async def _links(self, name: str, marking: Marking) -> list[Digest]:
        directory = f"{layout.repository(name)}/_layers"
        return [
            digest
            for algorithm in sorted(await self._names(directory, marking))
            for digest in digests_of(
                algorithm, await self._names(f"{directory}/{algorithm}", marking)
            )
        ]

    async def _stored(self, marking: Marking) -> list[Digest]:
        """Return the digests of all blobs."""
        found: list[Digest] = []
        for algorithm in await self._names(layout.BLOBS, marking):
            for shard in await self._names(f"{layout.BLOBS}/{algorithm}", marking):
                await marking.pace.step()
                entries = await self._names(f"{layout.BLOBS}/{algorithm}/{shard}", marking)
                found += digests_of(algorithm, entries)
        return found

    async def _names(self, path: str, marking: Marking) -> list[str]:
        """Return the directories in `path`; what can't be listed is told of, and stays."""
        try:
            return [entry.name for entry in await self._storage.list(path) if entry.is_directory]
        except PathUnknownError:
            return []
        except StorageError as error:
            marking.tell(path, error)
            return []
