"""Explanation: what keeps a blob or a manifest, or the rule by which it goes."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from dockyard.clock import Clock
from dockyard.core.holdings import Holder, Holdings, Role
from dockyard.core.leases import GRACE, Leases
from dockyard.errors import PathUnknownError, StorageError
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.interface import Storage


class Verdict(Enum):
    """What becomes of a blob; the first that applies."""

    KEPT = "kept"
    """A tag keeps it, or something that can't be read may do so."""
    UNTAGGED = "untagged"
    """Only manifests that no tag keeps need it."""
    LEASED = "leased"
    """Only clients that were told of it lately keep it."""
    REMOVED = "removed"
    """Only what was removed and can be restored needs it."""
    UNNEEDED = "unneeded"
    """Nothing needs it: it goes with the next collection."""
    COLLECTED = "collected"
    """A collection took it; it is in the trash."""
    UNKNOWN = "unknown"
    """There is no such blob, and nothing names it."""


class Relation(Enum):
    """By which of two manifests one keeps the other."""

    CHILD = "child"
    """The other one lists it."""
    REFERRER = "referrer"
    """It names the other one as its subject."""


@dataclass(frozen=True, slots=True)
class Step:
    """A manifest that keeps the one before it.

    Attributes:
        relation: what the one before is to it.
        digest: its digest.
    """

    relation: Relation
    digest: Digest


@dataclass(frozen=True, slots=True)
class Chain:
    """How a tag keeps a manifest.

    Attributes:
        tag: the tag.
        steps: from the manifest to the one that the tag points to; none if it is that one.
        is_sure: `False` if the tag can't be read, so that it may point to the manifest.
    """

    tag: str
    steps: tuple[Step, ...] = ()
    is_sure: bool = True


@dataclass(frozen=True, slots=True)
class Keeper:
    """A manifest that needs the blob.

    Attributes:
        holder: the repository, or what was removed from one, that has it.
        digest: its digest.
        role: what the blob is to it.
        chains: the tags of the repository that keep it, by the shortest way each.
    """

    holder: Holder
    digest: Digest
    role: Role
    chains: tuple[Chain, ...] = ()


@dataclass(frozen=True, slots=True)
class Lease:
    """Clients of a repository that were told of the blob.

    Attributes:
        repository: its name; `None` if that can't be read.
        expires: when the lease ends unless anyone is told again; `None` if that can't be read.
    """

    repository: str | None
    expires: datetime | None


@dataclass(slots=True)
class Explanation:
    """All that is known of a digest.

    Attributes:
        digest: the digest.
        size: bytes of the blob; `None` if it is not in its place.
        trashed: bytes of it in the trash; `None` if it is not there.
        keepers: the manifests that need it.
        leases: who was told of it.
        links: repositories that have a link to it. That alone keeps nothing.
        in_doubt: what has a link to it, and something in it that can't be read.
        doubts: what could not be read, by path, and why.
        is_partial: whether a directory could not be listed, so that a collection takes nothing.
    """

    digest: Digest
    size: int | None = None
    trashed: int | None = None
    keepers: list[Keeper] = field(default_factory=list)
    leases: Sequence[Lease] = ()
    links: list[str] = field(default_factory=list)
    in_doubt: list[Holder] = field(default_factory=list)
    doubts: Mapping[str, str] = field(default_factory=dict)
    is_partial: bool = False

    @property
    def verdict(self) -> Verdict:
        """What becomes of the blob."""
        if not self.keepers and self.size is None:
            return Verdict.UNKNOWN if self.trashed is None else Verdict.COLLECTED
        kept = [keeper for keeper in self.keepers if keeper.holder.item is None]
        sure = any(holder.item is None for holder in self.in_doubt) or self.is_partial
        for applies, verdict in (
            (sure or any(keeper.chains for keeper in kept), Verdict.KEPT),
            (kept, Verdict.UNTAGGED),
            (self.leases, Verdict.LEASED),
            (self.keepers or self.in_doubt, Verdict.REMOVED),
        ):
            if applies:
                return verdict
        return Verdict.UNNEEDED


class _Family:
    """How the manifests of a repository keep one another.

    Attributes:
        revisions: those that there are.
    """

    def __init__(self) -> None:
        self.revisions: Final[set[Digest]] = set()
        self._above: Final[dict[Digest, list[Step]]] = {}

    def add(self, digest: Digest, children: Iterable[Digest], subject: Digest | None) -> None:
        """Note what a manifest lists, and what it refers to."""
        for child in children:
            self._above.setdefault(child, []).append(Step(Relation.CHILD, digest))
        if subject is not None:
            self._above.setdefault(digest, []).append(Step(Relation.REFERRER, subject))

    def chains(self, digest: Digest, tags: Mapping[str, Digest | None]) -> tuple[Chain, ...]:
        """Return the tags that keep a manifest, by the shortest way each."""
        tagged: dict[Digest, list[str]] = {}
        for tag, target in tags.items():
            if target is not None:
                tagged.setdefault(target, []).append(tag)
        found: list[Chain] = []
        seen, waiting = {digest}, deque([(digest, tuple[Step, ...]())])
        while waiting:
            each, steps = waiting.popleft()
            found += (Chain(tag, steps) for tag in tagged.get(each, ()))
            for step in self._above.get(each, ()):
                if step.digest in self.revisions and step.digest not in seen:
                    seen.add(step.digest)
                    waiting.append((step.digest, (*steps, step)))
        unsure = (Chain(tag, is_sure=False) for tag, target in tags.items() if target is None)
        return (*found, *unsure)


class Inquiry:
    """Asks a tree about one digest."""

    def __init__(self, storage: Storage, clock: Clock, grace: timedelta = GRACE) -> None:
        self._storage: Final = storage
        self._holdings: Final = Holdings(storage)
        self._clock: Final = clock
        self._grace: Final = grace

    async def run(self, digest: Digest) -> Explanation:
        """Return what keeps `digest`. Every manifest is read, since any may need it."""
        holdings = self._holdings
        result = Explanation(digest, doubts=holdings.doubts)
        result.size = await holdings.size(layout.blob(digest))
        result.trashed = await holdings.size(layout.trash_blob(digest))
        result.leases = await self._leases(digest)
        async for holder in holdings.repositories():
            await self._ask(holder, result)
            if await holdings.exists(layout.layer_link(holder.name, digest)):
                result.links.append(holder.name)
        async for holder in holdings.removed():
            await self._ask(holder, result)
        result.is_partial = holdings.is_partial
        return result

    async def _ask(self, holder: Holder, result: Explanation) -> None:
        """Add what `holder` has that needs the digest."""
        found: list[tuple[Digest, Role]] = []
        family = _Family()
        is_doubtful = False
        async for held in self._holdings.manifests(holder):
            roles = {role for digest, role in held.needs() if digest == result.digest}
            found += ((held.digest, role) for role in sorted(roles, key=lambda role: role.value))
            is_doubtful |= held.is_doubtful
            family.revisions.add(held.digest)
            if held.manifest is not None:
                children = (child.digest for child in held.manifest.children)
                subject = held.manifest.subject
                family.add(held.digest, children, None if subject is None else subject.digest)
        if is_doubtful:
            layers = await self._holdings.layers(holder)
            if result.digest in layers or result.digest in family.revisions:
                result.in_doubt.append(holder)
        if not found:
            return
        tags = await self._holdings.tags(holder.name) if holder.item is None else {}
        for digest, role in found:
            result.keepers.append(Keeper(holder, digest, role, family.chains(digest, tags)))

    async def _leases(self, digest: Digest) -> list[Lease]:
        """Return the leases of a blob that hold; one that can't be read does."""
        leases = Leases(self._storage, self._grace)
        try:
            entries = sorted(
                entry.name for entry in await self._storage.list(layout.leases(digest))
            )
        except PathUnknownError:
            return []
        except StorageError as error:
            self._holdings.doubt(layout.leases(digest), error)
            return [Lease(None, None)]
        return [
            Lease(name, await self._expiry(layout.lease(digest, name)))
            for name in map(layout.leaseholder, entries)
            if await leases.is_held_in(name, digest)
        ]

    async def _expiry(self, path: str) -> datetime | None:
        try:
            age = timedelta(seconds=await self._storage.age(path))
        except StorageError as error:
            self._holdings.doubt(path, error)
            return None
        return self._clock() + self._grace - age
