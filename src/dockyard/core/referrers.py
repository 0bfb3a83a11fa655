"""Referrers: which manifests of a repository name another one as their subject.

Nothing is stored for this. A worker reads each manifest of a repository once, when it is first
asked, and keeps which subject it names; that can't change. Which manifests the repository has is
looked up each time, so what another worker, distribution or ``rm`` did is seen at once. Manifests
listed under the referrers tag of an older client are among them.
"""

import asyncio
import json
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from dockyard.core.manifests import Manifests, StoredManifest, get_readable
from dockyard.core.sharing import Shared
from dockyard.errors import DigestInvalidError, ManifestInvalidError, PathUnknownError
from dockyard.oci import manifest as grammar
from dockyard.oci.digest import Digest
from dockyard.oci.manifest import Manifest
from dockyard.storage import layout
from dockyard.storage.interface import Stamp, Storage


PAGE: Final = 250
"""Descriptors in one answer, at most: under 4 MiB, the size clients allow an index, as long as
their annotations stay under 16 KiB each."""

REMEMBERED: Final = 100_000
"""Manifests whose subject a worker remembers, over all repositories: about 45 MB."""

SLICE: Final = 32
"""Manifests read before other requests get their turn: about 2 ms."""

DESCRIBED: Final = 16 << 20
"""Bytes of descriptions that a worker remembers, over all repositories: some 16 000."""

DESCRIPTION_OVERHEAD: Final = 700
"""Bytes that a description takes beside its descriptor: its digest, paths and stamps."""


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that refers to another, as the referrers API describes it.

    Attributes:
        digest: its digest.
        artifact_type: its artifact type; empty if it has none.
        descriptor: what the API says of it, as JSON.
    """

    digest: Digest
    artifact_type: str
    descriptor: bytes


@dataclass(frozen=True, slots=True)
class _Description:
    """What was made of a manifest, and of what in the tree.

    Attributes:
        referrer: what was made.
        paths: what was read of the repository, below its revisions.
        stamps: of each of `paths`, before it was read.
    """

    referrer: Referrer
    paths: Sequence[str]
    stamps: Sequence[Stamp | None]

    @property
    def size(self) -> int:
        """Bytes of memory it takes, about."""
        return len(self.referrer.descriptor) + DESCRIPTION_OVERHEAD


@dataclass(slots=True)
class _Repository:
    """What is known of one repository.

    Attributes:
        stamps: of its revision directories when they were last listed, if that can be trusted.
        subjects: for each manifest the subject it names.
        referring: for a subject the manifests that name it, in order; made when it is asked for.
        looking: held while the repository is looked at, so that of two looks at once the earlier
            can't undo what the later one found.
    """

    stamps: Mapping[str, Stamp] | None = None
    subjects: dict[Digest, Digest | None] = field(default_factory=dict)
    referring: dict[Digest, Sequence[str]] = field(default_factory=dict)
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def candidates(self, subject: Digest) -> Sequence[str]:
        """Return the digests of the manifests that name `subject`, in order."""
        found = self.referring.get(subject)
        if found is None:
            found = sorted(str(each) for each, named in self.subjects.items() if named == subject)
            if found:  # any number of subjects may be asked for that nothing refers to
                self.referring[subject] = found
        return found


class Referrers:
    """The referrers of all repositories."""

    def __init__(self, storage: Storage, manifests: Manifests) -> None:
        self._storage = storage
        self._manifests = manifests
        self._repositories: Final[OrderedDict[str, _Repository]] = OrderedDict()
        self._descriptions: Final[dict[tuple[str, str], _Description]] = {}
        self._described = 0
        self._shared: Final[Shared[tuple[Sequence[Referrer], bool]]] = Shared()

    async def page(
        self, name: str, subject: Digest, artifact_type: str, limit: int, last: str
    ) -> tuple[Sequence[Referrer], bool]:
        """Return up to `limit` referrers of `subject` after the digest `last`, and if more follow.

        Args:
            name: the repository; one without manifests has no referrers.
            subject: the manifest referred to; it need not exist.
            artifact_type: only referrers of this type; empty for all.
            limit: at most `PAGE` are returned.
            last: the digest of the last referrer of the page before; empty for the first page.
        """
        size = min(limit, PAGE)
        key = name, subject, artifact_type, size, last
        return await self._shared.get(key, lambda: self._look_through(*key))

    async def _look_through(
        self, name: str, subject: Digest, artifact_type: str, limit: int, last: str
    ) -> tuple[Sequence[Referrer], bool]:
        candidates = (await self._refresh(name)).candidates(subject)
        position = bisect_right(candidates, last)
        found: list[Referrer] = []
        while position < len(candidates) and len(found) <= limit:
            batch = candidates[position : position + max(limit + 1 - len(found), SLICE)]
            position += len(batch)
            described = await self._describe_all(name, batch)
            found += (
                each
                for each in described
                if each is not None and artifact_type in {"", each.artifact_type}
            )
            if position < len(candidates):
                await asyncio.sleep(0)
        return found[:limit], len(found) > limit

    async def _describe_all(self, name: str, batch: Sequence[str]) -> Sequence[Referrer | None]:
        """Describe manifests, those anew of which something in the repository may have changed."""
        known = [self._descriptions.get((name, text)) for text in batch]
        paths = [path for each in known if each is not None for path in each.paths]
        stamps = iter(await self._storage.stamps(layout.revisions(name), paths))
        found: list[Referrer | None] = []
        for position, each in enumerate(known):
            if each is not None and [*islice(stamps, len(each.paths))] == each.stamps:
                found.append(each.referrer)
                continue
            found.append(await self._describe(name, Digest.parse(batch[position])))
            if position % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        return found

    async def _describe(self, name: str, digest: Digest) -> Referrer | None:
        revisions = layout.revisions(name)
        read = [layout.revision_link(name, digest), layout.revision_media_type(name, digest)]
        paths = [path.removeprefix(f"{revisions}/") for path in read]
        # Before it is read: what comes between the two is found by the next look.
        stamps = await self._storage.stamps(revisions, paths)
        stored = await get_readable(self._manifests, name, digest)
        if stored is None:
            return None
        try:
            manifest = grammar.parse_stored(stored.content)
            if manifest is not None:  # it says its type itself, so none is noted, or in vain
                paths, stamps = paths[:1], stamps[:1]
            else:
                manifest = grammar.parse(stored.content, stored.media_type)
        except ManifestInvalidError:  # what it names as its subject counts for nothing
            return None
        referrer = Referrer(digest, manifest.artifact_type, _render(stored, manifest))
        if None not in stamps:
            self._keep((name, str(digest)), _Description(referrer, paths, list(stamps)))
        return referrer

    def _keep(self, key: tuple[str, str], description: _Description) -> None:
        """Remember a description, and forget what was described longest ago."""
        if key in self._descriptions:
            self._described -= self._descriptions.pop(key).size
        self._descriptions[key] = description
        self._described += description.size
        while self._described > DESCRIBED:
            self._described -= self._descriptions.pop(next(iter(self._descriptions))).size

    async def _refresh(self, name: str) -> _Repository:
        """Return what is known of a repository, after a look at which manifests it has."""
        known = self._repositories.pop(name, None) or _Repository()
        self._repositories[name] = known
        async with known.looking:
            stamps = await self._stamps(name)
            if stamps is None or stamps != known.stamps:
                await self._look(name, known, stamps)
        self._forget(name)
        return known

    async def _look(
        self, name: str, known: _Repository, stamps: Mapping[str, Stamp] | None
    ) -> None:
        present = await self._present(name)
        for digest in known.subjects.keys() - present:
            del known.subjects[digest]
        for position, digest in enumerate(present - known.subjects.keys()):
            await self._learn(name, digest, known)
            if position % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        known.referring.clear()
        known.stamps = stamps if present == known.subjects.keys() else None

    async def _learn(self, name: str, digest: Digest, known: _Repository) -> None:
        try:
            stored = await get_readable(self._manifests, name, digest)
        except ManifestInvalidError:  # of a kind that is not served refers to nothing
            known.subjects[digest] = None
            return
        if stored is not None:
            known.subjects[digest] = grammar.subject_of(stored.content)

    async def _algorithms(self, name: str) -> Sequence[str]:
        try:
            entries = await self._storage.list(layout.revisions(name))
        except PathUnknownError:
            return ()
        return sorted(entry.name for entry in entries if entry.is_directory)

    async def _stamps(self, name: str) -> Mapping[str, Stamp] | None:
        """Return a stamp for each directory of revisions; `None` if one is too fresh."""
        stamps: dict[str, Stamp] = {}
        for algorithm in await self._algorithms(name):
            try:
                stamp = await self._storage.stamp(f"{layout.revisions(name)}/{algorithm}")
            except PathUnknownError:
                return None
            if stamp is None:
                return None
            stamps[algorithm] = stamp
        return stamps

    async def _present(self, name: str) -> set[Digest]:
        present: set[Digest] = set()
        for algorithm in await self._algorithms(name):
            try:
                entries = await self._storage.list(f"{layout.revisions(name)}/{algorithm}")
            except PathUnknownError:
                continue
            for entry in entries:
                try:
                    present.add(Digest.parse(f"{algorithm}:{entry.name}"))
                except DigestInvalidError:
                    continue  # not a revision; whatever it is, it is not ours
        return present

    def _forget(self, current: str) -> None:
        """Drop the repositories asked for longest ago while more is remembered than may be."""
        total = sum(len(known.subjects) for known in self._repositories.values())
        while total > REMEMBERED and self._repositories:
            name, dropped = self._repositories.popitem(last=False)
            total -= len(dropped.subjects)
            if name == current:
                return


def _render(stored: StoredManifest, manifest: Manifest) -> bytes:
    """Return the descriptor of a manifest that refers to another. Source: OCI, end-12."""
    item: dict[str, object] = {
        "mediaType": stored.media_type,
        "digest": str(stored.digest),
        "size": len(stored.content),
    }
    if manifest.annotations:
        item["annotations"] = dict(manifest.annotations)
    if manifest.artifact_type:
        item["artifactType"] = manifest.artifact_type
    return json.dumps(item, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
