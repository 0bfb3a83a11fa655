"""Referrers: which manifests of a repository name another one as their subject.

Nothing is stored for this. A worker reads each manifest of a repository once, when it is first
asked, and keeps which subject it names; that can't change. Which manifests the repository has is
looked up each time, so what another worker, distribution or ``rm`` did is seen at once. Manifests
listed under the referrers tag of an older client are among them.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from dockyard.core.manifests import Manifests, StoredManifest, get_readable
from dockyard.errors import DigestInvalidError, ManifestInvalidError, PathUnknownError
from dockyard.oci import manifest as grammar
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.interface import Stamp, Storage


PAGE: Final = 250
"""Descriptors in one answer, at most: under 4 MiB, the size clients allow an index, as long as
their annotations stay under 16 KiB each."""

REMEMBERED: Final = 100_000
"""Manifests whose subject a worker remembers, over all repositories: about 30 MB."""

SLICE: Final = 32
"""Manifests read before other requests get their turn: about 2 ms."""


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that refers to another, as the referrers API describes it.

    Attributes:
        manifest: the manifest.
        artifact_type: its artifact type; empty if it has none.
        annotations: its annotations.
    """

    manifest: StoredManifest
    artifact_type: str
    annotations: Mapping[str, str]


@dataclass(slots=True)
class _Repository:
    """What is known of one repository.

    Attributes:
        stamps: of its revision directories when they were last listed, if that can be trusted.
        subjects: for each manifest the subject it names.
        looking: held while the repository is looked at, so that of two looks at once the earlier
            can't undo what the later one found.
    """

    stamps: Mapping[str, Stamp] | None = None
    subjects: dict[Digest, Digest | None] = field(default_factory=dict)
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Referrers:
    """The referrers of all repositories."""

    def __init__(self, storage: Storage, manifests: Manifests) -> None:
        self._storage = storage
        self._manifests = manifests
        self._repositories: Final[OrderedDict[str, _Repository]] = OrderedDict()

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
        known = await self._refresh(name)
        candidates = sorted(
            str(digest) for digest, named in known.subjects.items() if named == subject
        )
        found: list[Referrer] = []
        for text in candidates:
            if text <= last:
                continue
            referrer = await self._describe(name, Digest.parse(text))
            if referrer is None or artifact_type not in {"", referrer.artifact_type}:
                continue
            if len(found) == min(limit, PAGE):
                return found, True
            found.append(referrer)
        return found, False

    async def _describe(self, name: str, digest: Digest) -> Referrer | None:
        stored = await get_readable(self._manifests, name, digest)
        if stored is None:
            return None
        manifest = grammar.parse(stored.content, stored.media_type)
        return Referrer(stored, manifest.artifact_type, manifest.annotations)

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
        known.stamps = stamps if present == known.subjects.keys() else None

    async def _learn(self, name: str, digest: Digest, known: _Repository) -> None:
        try:
            stored = await get_readable(self._manifests, name, digest)
            if stored is not None:
                manifest = grammar.parse(stored.content, stored.media_type)
                known.subjects[digest] = manifest.subject.digest if manifest.subject else None
        except ManifestInvalidError:  # of a kind that is not served refers to nothing
            known.subjects[digest] = None

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
