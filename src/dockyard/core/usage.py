"""Usage: how many bytes repositories and tags need, and what deleting one would free.

A tree may have a hundred thousand blobs, so each has a number, and who needs which is kept as
arrays of numbers; manifests are read one after another and forgotten.
"""

from array import array
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from dockyard.core.holdings import Held, Holder, Holdings
from dockyard.core.leases import Leases
from dockyard.core.tagging import Revision, Tagging
from dockyard.errors import RepositoryUnknownError
from dockyard.oci.digest import Digest
from dockyard.storage.interface import Storage


@dataclass(frozen=True, slots=True)
class Share:
    """What one repository, or the image of one tag, has of the stored bytes.

    Attributes:
        needed: bytes of all that it needs.
        unique: bytes of them that no other needs.
        frees: bytes that a collection frees once it is deleted: not what clients were told of
            lately, nor what something in the trash needs, nor what is in doubt.
    """

    needed: int = 0
    unique: int = 0
    frees: int = 0

    @property
    def shared(self) -> int:
        """Bytes that others need too."""
        return self.needed - self.unique


@dataclass(frozen=True, slots=True)
class RepositoryUsage:
    """What a repository needs.

    Attributes:
        name: its name.
        manifests: how many manifests it has.
        share: its bytes; `Share.frees` by deleting the repository.
    """

    name: str
    manifests: int
    share: Share


@dataclass(frozen=True, slots=True)
class TagUsage:
    """What the image of a tag needs: its manifest, what that lists, and what refers to these.

    Attributes:
        tag: the tag.
        digest: the manifest that it points to.
        share: its bytes, beside other images; `Share.frees` by deleting the manifest. What an index
            lists, and what refers to the manifest, stays: each is a manifest of its own.
        frees_untagged: as `Share.frees`, by a collection that deletes what is untagged then; beyond
            what it would free of the repository anyway.
    """

    tag: str
    digest: Digest
    share: Share
    frees_untagged: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Where the stored bytes go. The first is the sum of those after it, but for the trash.

    Attributes:
        stored: all blobs in their places.
        needed: what repositories need.
        leased: what else clients were told of lately, and may be about to need.
        removed: what else is needed by something in the trash that can be restored.
        unneeded: what a collection would free now.
        trash: blobs that collections took and did not destroy yet. Not in `stored`.
    """

    stored: int
    needed: int
    leased: int
    removed: int
    unneeded: int
    trash: int


@dataclass(frozen=True, slots=True)
class RepositoryDetail:
    """The tags of one repository.

    Attributes:
        usage: of the repository.
        tags: by what they free, the most first. Tags of one manifest have the same numbers.
        untagged: of the manifests that no tag keeps; `Share.frees` by deleting what is untagged.
        untagged_manifests: how many these are.
    """

    usage: RepositoryUsage
    tags: Sequence[TagUsage]
    untagged: Share
    untagged_manifests: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree is used for.

    Attributes:
        totals: of the whole tree.
        repositories: those that need anything, by what they free, the most first.
        detail: of the repository that was asked for.
        doubts: what could not be read, by path, and why. What it might need counts as needed.
        is_partial: whether a directory could not be listed, so that a collection frees nothing.
    """

    totals: Totals
    repositories: Sequence[RepositoryUsage]
    detail: RepositoryDetail | None
    doubts: dict[str, str] = field(default_factory=dict)
    is_partial: bool = False


@dataclass(slots=True)
class _Blobs:
    """All stored blobs, by number.

    Attributes:
        numbers: the number of each. A hash of sha256 has 32 bytes, one of sha512 twice as many.
        sizes: bytes of each.
        needing: how many repositories need each.
        leased: 1 for those that clients were told of lately.
        removed: 1 for those that something in the trash needs.
    """

    numbers: dict[bytes, int] = field(default_factory=dict)
    sizes: "array[int]" = field(default_factory=lambda: array("Q"))
    needing: "array[int]" = field(default_factory=lambda: array("I"))
    leased: bytearray = field(default_factory=bytearray)
    removed: bytearray = field(default_factory=bytearray)

    def add(self, digest: Digest, size: int) -> None:
        """Number a blob."""
        key = bytes.fromhex(digest.hex)
        if key not in self.numbers:
            self.numbers[key] = len(self.sizes)
            self.sizes.append(size)
            self.needing.append(0)
            self.leased.append(0)
            self.removed.append(0)

    def find(self, digests: Iterable[Digest]) -> set[int]:
        """Return the numbers of those of `digests` that are stored."""
        numbers = self.numbers
        found = (numbers.get(bytes.fromhex(digest.hex)) for digest in digests)
        return {number for number in found if number is not None}

    def is_only(self, blob: int) -> bool:
        """Return whether no more than one repository needs a blob."""
        return self.needing[blob] <= 1

    def is_free(self, blob: int) -> bool:
        """Return whether nothing but repositories keeps a blob."""
        return not (self.leased[blob] or self.removed[blob])


@dataclass(frozen=True, slots=True)
class _Needed:
    """What a repository needs, compactly: numbers of blobs."""

    name: str
    manifests: int
    blobs: "array[int]"


class Survey:
    """Looks over a tree, once."""

    def __init__(self, storage: Storage, leases: Leases) -> None:
        self._holdings: Final = Holdings(storage)
        self._leases: Final = leases
        self._blobs: Final = _Blobs()
        self._needed: Final[list[_Needed]] = []

    async def run(self, name: str | None = None) -> Usage:
        """Return what the tree is used for, and the tags of the repository `name`.

        Blobs first, leases next, repositories after that, the trash last: what is pushed or deleted
        meanwhile is needed by one of those looked at later.

        Raises:
            RepositoryUnknownError: there is no repository `name`.
        """
        await self._look_at_blobs()
        tagging = None
        async for holder in self._holdings.repositories():
            wanted = Tagging() if holder.name == name else None
            tagging = tagging or wanted
            await self._repository(holder, wanted)
        if name is not None and tagging is None:
            raise RepositoryUnknownError(name)
        async for holder in self._holdings.removed():
            for blob in (await self._blobs_of(holder, None))[1]:
                self._blobs.removed[blob] = 1
        detail = None if name is None or tagging is None else await self._detail(name, tagging)
        return Usage(
            await self._totals(),
            sorted(map(self._usage, filter(_is_used, self._needed)), key=_by_freed),
            detail,
            self._holdings.doubts,
            self._holdings.is_partial,
        )

    async def _look_at_blobs(self) -> None:
        async for digest, size in self._holdings.stored():
            self._blobs.add(digest, size)
        for digest in await self._holdings.leased():
            if await self._leases.is_held(digest):
                for blob in self._blobs.find([digest]):
                    self._blobs.leased[blob] = 1

    async def _repository(self, holder: Holder, tagging: Tagging | None) -> None:
        """Count what a repository needs."""
        manifests, found = await self._blobs_of(holder, tagging)
        self._needed.append(_Needed(holder.name, manifests, array("I", sorted(found))))
        for blob in found:
            self._blobs.needing[blob] += 1

    async def _blobs_of(self, holder: Holder, tagging: Tagging | None) -> tuple[int, set[int]]:
        """Return how many manifests a holder has, and which blobs it needs; note its manifests."""
        found: set[int] = set()
        manifests, is_doubtful = 0, False
        async for held in self._holdings.manifests(holder):
            manifests += 1
            needed = self._blobs.find(digest for digest, _ in held.needs())
            found |= needed
            is_doubtful |= held.is_doubtful
            if tagging is not None:
                tagging.add(held.digest, _revision(held, needed))
        if is_doubtful:
            layers = self._blobs.find(await self._holdings.layers(holder))
            found |= layers | self._blobs.find(await self._holdings.revisions(holder))
            if tagging is not None:
                tagging.keep(layers)
        return manifests, found

    def _usage(self, needed: _Needed) -> RepositoryUsage:
        only = [blob for blob in needed.blobs if self._blobs.is_only(blob)]
        share = Share(self._sum(needed.blobs), self._sum(only), self._freed(only))
        return RepositoryUsage(needed.name, needed.manifests, share)

    async def _detail(self, name: str, tagging: Tagging) -> RepositoryDetail:
        tags = await self._holdings.tags(name)
        tagging.tag(
            (digest for digest in tags.values() if digest is not None),
            is_sure=None not in tags.values(),
        )
        shown: list[TagUsage] = []
        for tag, digest in tags.items():
            if digest is not None and tagging.has(digest):
                shown.append(self._tag(tag, digest, tagging))
        untagged = tagging.untagged()
        return RepositoryDetail(
            next(self._usage(needed) for needed in self._needed if needed.name == name),
            sorted(shown, key=_by_freed_of_tag),
            self._share(tagging, untagged, untagged),
            len(untagged),
        )

    def _tag(self, tag: str, digest: Digest, tagging: Tagging) -> TagUsage:
        share = self._share(tagging, tagging.image(digest), [digest])
        return TagUsage(tag, digest, share, self._freed(tagging.freed_untagged(digest)))

    def _share(
        self, tagging: Tagging, image: Collection[Digest], deleted: Collection[Digest]
    ) -> Share:
        only = [blob for blob in tagging.unique_to(image) if self._blobs.is_only(blob)]
        freed = self._freed(tagging.freed_by(deleted))
        return Share(self._sum(tagging.blobs(image)), self._sum(only), freed)

    async def _totals(self) -> Totals:
        blobs = self._blobs
        needed = leased = removed = unneeded = 0
        for blob, size in enumerate(blobs.sizes):
            if blobs.needing[blob]:
                needed += size
            elif blobs.leased[blob]:
                leased += size
            elif blobs.removed[blob]:
                removed += size
            else:
                unneeded += size
        if self._holdings.is_partial:
            needed, unneeded = needed + unneeded, 0
        trash = await self._holdings.trashed()
        return Totals(sum(blobs.sizes), needed, leased, removed, unneeded, trash)

    def _sum(self, blobs: Iterable[int]) -> int:
        return sum(self._blobs.sizes[blob] for blob in blobs)

    def _freed(self, blobs: Iterable[int]) -> int:
        """Return the bytes that go with `blobs`, which one repository no longer needs."""
        if self._holdings.is_partial:
            return 0
        only = self._blobs
        return self._sum(blob for blob in blobs if only.is_only(blob) and only.is_free(blob))


def _revision(held: Held, blobs: set[int]) -> Revision:
    manifest = held.manifest
    return Revision(
        array("I", sorted(blobs)),
        () if manifest is None else tuple(child.digest for child in manifest.children),
        None if manifest is None or manifest.subject is None else manifest.subject.digest,
        is_doubtful=manifest is None,
    )


def _is_used(needed: _Needed) -> bool:
    return needed.manifests > 0 or len(needed.blobs) > 0


def _by_freed(usage: RepositoryUsage) -> tuple[int, int, str]:
    return -usage.share.frees, -usage.share.needed, usage.name


def _by_freed_of_tag(usage: TagUsage) -> tuple[int, int, int, str]:
    return -usage.share.frees, -usage.frees_untagged, -usage.share.needed, usage.tag
