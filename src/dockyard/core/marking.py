"""Marking: which blobs the manifests of all repositories need."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from dockyard.core.links import LinkDamagedError, read_link
from dockyard.core.manifests import STORED_LIMIT
from dockyard.errors import DigestInvalidError, ManifestInvalidError, PathUnknownError, StorageError
from dockyard.oci import manifest as grammar
from dockyard.oci.digest import Digest
from dockyard.oci.manifest import Manifest
from dockyard.storage import layout
from dockyard.storage.interface import Storage


SLICE: Final = 32
"""Manifests read before other requests get their turn: about 2 ms."""


class Observer(Protocol):
    """Is told what marking finds, as it finds it. Source: distribution's garbage-collect output."""

    def repository(self, name: str) -> None:
        """The walk came to a repository."""
        ...

    def manifest(self, name: str, digest: Digest) -> None:
        """A manifest is kept."""
        ...

    def blob(self, name: str, digest: Digest) -> None:
        """A blob is kept that was not yet."""
        ...

    def untagged(self, name: str, digest: Digest, tags: Sequence[str]) -> None:
        """A manifest goes, since no tag, index or subject keeps it."""
        ...

    def tagless(self, name: str) -> None:
        """A repository has no directory of tags."""
        ...

    def doubt(self, path: str, reason: str) -> None:
        """Something can't be read; all that it might need is kept."""
        ...


@dataclass(slots=True)
class Marks:
    """What is kept, and what was looked at to find that out.

    Attributes:
        blobs: digests of everything that is kept, manifests included.
        revisions: the manifests each repository had when it was looked at.
        untagged: manifests that go, with their repositories.
        doubts: what could not be read.
        everything: whether nothing may go at all, since a part of the tree could not be listed.
    """

    blobs: set[Digest] = field(default_factory=set)
    revisions: dict[str, frozenset[Digest]] = field(default_factory=dict)
    untagged: list[tuple[str, Digest]] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    everything: bool = False


class Marking:
    """One walk over all repositories."""

    def __init__(self, storage: Storage, observer: Observer, *, delete_untagged: bool) -> None:
        self._storage = storage
        self._observer = observer
        self._delete_untagged = delete_untagged
        self.marks: Final = Marks()
        self._read = 0

    async def run(self) -> Marks:
        """Look at every repository; return what is kept."""
        async for name in self.names():
            await self._repository(name)
        return self.marks

    async def run_again(self) -> None:
        """Look once more, for manifests that came since the first look, and keep what they need."""
        async for name in self.names():
            known = self.marks.revisions.get(name, frozenset())
            present = await self._revisions(name)
            for digest in sorted(present - known):
                await self._keep(name, digest)
            self.marks.revisions[name] = frozenset(known | present)

    def names(self) -> AsyncIterator[str]:
        """Yield the names of all repositories."""
        return self._repositories(layout.REPOSITORIES, "")

    async def _repository(self, name: str) -> None:
        self._observer.repository(name)
        revisions = await self._revisions(name)
        self.marks.revisions[name] = frozenset(revisions)
        if not self._delete_untagged:
            for digest in sorted(revisions):
                await self._keep(name, digest)
            return
        await self._tagged_only(name, revisions)

    async def _tagged_only(self, name: str, revisions: Collection[Digest]) -> None:
        """Keep what a tag points to, what those need, and what refers to what is kept."""
        tags = await self._tags(name)
        if tags is None:
            self._observer.tagless(name)
            tags = {}
        parsed = {digest: await self._manifest(name, digest) for digest in sorted(revisions)}
        kept: set[Digest] = set()
        wanted = [digest for digest in tags.values() if digest in parsed]
        wanted += [digest for digest, manifest in parsed.items() if manifest is None]  # in doubt
        while wanted:
            digest = wanted.pop()
            if digest in kept:
                continue
            kept.add(digest)
            manifest = parsed[digest]
            children = () if manifest is None else manifest.children
            wanted += [child.digest for child in children if child.digest in parsed]
            wanted += [
                other
                for other, each in parsed.items()
                if each is not None and each.subject is not None and each.subject.digest == digest
            ]
        for digest in sorted(revisions):
            if digest in kept:
                await self._keep(name, digest)
            else:
                self._observer.untagged(name, digest, sorted(tags))
                self.marks.untagged.append((name, digest))

    async def _keep(self, name: str, digest: Digest) -> None:
        """Mark a manifest and what it references."""
        manifest = await self._manifest(name, digest)
        self._observer.manifest(name, digest)
        self.marks.blobs.add(digest)
        if manifest is None:
            await self._keep_repository(name)
            return
        config = () if manifest.config is None else (manifest.config,)
        for descriptor in (*manifest.children, *config, *manifest.layers):
            if descriptor.digest not in self.marks.blobs:
                self.marks.blobs.add(descriptor.digest)
                self._observer.blob(name, descriptor.digest)
            if descriptor.digest.algorithm != "sha256":
                await self._keep_alias(name, descriptor.digest)

    async def _keep_alias(self, name: str, digest: Digest) -> None:
        """Mark what a link of distribution points to: it stores all content by sha256."""
        try:
            target = await read_link(self._storage, layout.layer_link(name, digest))
        except PathUnknownError:
            return
        except StorageError as error:
            await self._doubt(name, layout.layer_link(name, digest), error)
            return
        self.marks.blobs.add(target)

    async def _manifest(self, name: str, digest: Digest) -> Manifest | None:
        """Return what a manifest says; `None` if that is in doubt."""
        self._read += 1
        if self._read % SLICE == 0:
            await asyncio.sleep(0)
        try:
            target = await read_link(self._storage, layout.revision_link(name, digest))
            content = await self._storage.get(layout.blob(target), STORED_LIMIT)
            self.marks.blobs.add(target)
            if Digest.of(content, target.algorithm) != target:
                raise LinkDamagedError(layout.blob(target))
            media_type = await self._noted_type(name, digest)
            return grammar.parse(content, grammar.declared_type(content) or media_type)
        except (StorageError, ManifestInvalidError) as error:
            await self._doubt(name, layout.revision_link(name, digest), error)
            return None

    async def _noted_type(self, name: str, digest: Digest) -> str:
        try:
            noted = await self._storage.get(layout.revision_media_type(name, digest), 1024)
        except PathUnknownError:
            return ""
        return noted.decode("latin-1")

    async def _doubt(self, name: str, path: str, error: Exception) -> None:
        self.marks.doubts.append(path)
        self._observer.doubt(path, str(error))
        await self._keep_repository(name)

    async def _keep_repository(self, name: str) -> None:
        """Mark every blob and manifest that a repository has a link to, whatever needs it."""
        for directory in ("_layers", "_manifests/revisions"):
            for digest in await self._digests(f"{layout.repository(name)}/{directory}"):
                self.marks.blobs.add(digest)

    async def _revisions(self, name: str) -> set[Digest]:
        """Return the manifests a repository has."""
        found = set()
        for digest in await self._digests(layout.revisions(name)):
            if await self._storage.exists(layout.revision_link(name, digest)):
                found.add(digest)
        return found

    async def _tags(self, name: str) -> dict[str, Digest] | None:
        """Return what each tag points to, or `None` without a directory of tags."""
        if not await self._storage.exists(layout.tags(name)):
            return None
        tags: dict[str, Digest] = {}
        for tag in await self._names(layout.tags(name)):
            try:
                tags[tag] = await read_link(self._storage, layout.tag_current(name, tag))
            except PathUnknownError:
                continue
            except StorageError as error:
                # It might point to any manifest of the repository.
                await self._doubt(name, layout.tag_current(name, tag), error)
                for digest in await self._revisions(name):
                    tags[f"{tag} {digest}"] = digest
        return tags

    async def _repositories(self, directory: str, parent: str) -> AsyncIterator[str]:
        """Yield the names of all repositories, in the order of distribution's walk."""
        for entry in sorted(await self._names(directory)):
            if entry.startswith("_"):
                continue
            name = f"{parent}/{entry}" if parent else entry
            if await self._storage.exists(layout.manifests(name)):
                yield name
            async for deeper in self._repositories(f"{directory}/{entry}", name):
                yield deeper

    async def _digests(self, directory: str) -> list[Digest]:
        """Return the digests that have directories in `directory`, one level for the algorithm."""
        found = []
        for algorithm in await self._names(directory):
            for name in await self._names(f"{directory}/{algorithm}"):
                try:
                    found.append(Digest.parse(f"{algorithm}:{name}"))
                except DigestInvalidError:
                    continue
        return found

    async def _names(self, path: str) -> list[str]:
        """Return the directories in `path`. If that can't be told, nothing may go at all."""
        try:
            return [entry.name for entry in await self._storage.list(path) if entry.is_directory]
        except PathUnknownError:
            return []
        except StorageError as error:
            self.marks.everything = True
            self.marks.doubts.append(path)
            self._observer.doubt(path, str(error))
            return []
