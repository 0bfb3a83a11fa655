"""Marking: which blobs the manifests of all repositories need."""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from dockyard.core.discarded import Discarded
from dockyard.core.links import LinkDamagedError, read_link
from dockyard.core.manifests import MEDIA_TYPE_LIMIT, STORED_LIMIT
from dockyard.core.marks import Marks, Observer, Relations, references
from dockyard.core.pace import Pace
from dockyard.core.sparing import Sparing
from dockyard.core.trash import Item, Trash
from dockyard.errors import DigestInvalidError, ManifestInvalidError, PathUnknownError, StorageError
from dockyard.oci import manifest as grammar
from dockyard.oci.digest import Digest
from dockyard.oci.manifest import Manifest
from dockyard.storage import layout
from dockyard.storage.interface import Storage


READ_TRIES: Final = 3
"""Times a manifest is looked for whose link is there, then isn't: a client deletes it and pushes it
again at the same moment, and hardly does so three times while we read a link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What marking keeps besides what the manifests of repositories need.

    Attributes:
        delete_untagged: whether manifests go that no tag, index or subject keeps.
        sparing: says which of these stay for a time; `None`: none.
        trash: has what was removed and can be restored, which keeps what it needs; `None`: nothing.
        left: manifests that removed tags pointed to, with their repositories.
        pace: how much of the process's time this takes.
    """

    delete_untagged: bool = False
    sparing: Sparing | None = None
    trash: Trash | None = None
    left: Collection[tuple[str, Digest]] = ()
    pace: Pace = field(default_factory=Pace)


class Marking:
    """One walk over all repositories, and over what was removed from them and can be restored."""

    def __init__(self, storage: Storage, observer: Observer, rules: Rules) -> None:
        self._storage = storage
        self._observer = observer
        self._rules = rules
        self.marks: Final = Marks()
        self._relations: Final[dict[str, Relations]] = {}
        self.discarded: Final = Discarded(rules.trash)
        self._kept_removed: Final[set[tuple[str, Digest]]] = set()

    @property
    def pace(self) -> Pace:
        """How much of the process's time marking takes."""
        return self._rules.pace

    async def run(self) -> Marks:
        """Look at every repository; return what is kept."""
        await self._look_at_trash()
        async for name in self.names():
            await self._repository(name)
        await self._keep_removed()
        return self.marks

    async def run_again(self) -> None:
        """Look once more, and keep what manifests need that came or were removed meanwhile."""
        # Removed ones before and after: what is restored or removed meanwhile is then seen where it
        # was or where it went.
        await self._look_at_trash()
        await self._keep_removed()
        async for name in self.names():
            # Those whose links are gone are looked for one by one, so not all again.
            await self._keep_all(name, await self._digests(layout.revisions(name)))
        await self._look_at_trash()
        await self._keep_removed()

    async def _look_at_trash(self, name: str | None = None) -> None:
        """See `Discarded.look`. Untold: nothing may go at all."""
        try:
            await self.discarded.look(name)
        except StorageError as error:
            self._give_up(layout.trash_items(), error)

    async def _keep_removed(self) -> None:
        """Mark what the manifests in the trash need; where there are none, the blobs themselves."""
        for item in self.discarded.items():
            if not item.manifests:
                await self._keep_links(item)
            for digest in item.manifests:
                # One item may get its parts while it is looked at.
                if (item.identifier, digest) not in self._kept_removed:
                    await self._keep_removed_one(item, digest)

    async def _keep_removed_one(self, item: Item, digest: Digest) -> None:
        manifest = await self._keep_needs(item.name, digest)
        if manifest is None:
            await self._keep_links(item)  # in doubt, or on its way to elsewhere
            return
        for needed in references(manifest):
            if needed.algorithm != "sha256":
                await self._keep_alias(item.name, needed, item.directory)
        self._kept_removed.add((item.identifier, digest))

    async def _keep_needs(self, name: str, digest: Digest) -> Manifest | None:
        """Mark what a manifest needs that is in the trash, or goes there; return what it says."""
        self.marks.blobs.add(digest)
        manifest = await self._manifest(name, digest, keep=True)
        for needed in () if manifest is None else references(manifest):
            self.marks.blobs.add(needed)
            if needed.algorithm != "sha256":
                await self._keep_alias(name, needed)
        return manifest

    async def _keep_links(self, item: Item) -> None:
        """Mark the blobs whose links are in an item of the trash."""
        for digest in item.blobs:
            self.marks.blobs.add(digest)
            if digest.algorithm != "sha256":
                await self._keep_alias(item.name, digest, item.directory)

    async def reconsider(self, name: str, untagged: Collection[Digest]) -> list[Digest]:
        """Return which of the `untagged` manifests still go, and keep what the others need.

        To be called with the repository's lock held, so that no manifest arrives meanwhile.
        """
        await self._look_at_trash(name)
        revisions = await self._revisions(name)
        kept = await self._kept(name, revisions, await self._tags(name) or {})
        if self.marks.everything:
            kept = revisions  # what can't be listed might keep any of them
        await self._keep_all(name, kept)
        return sorted(revisions.intersection(untagged) - kept)

    def names(self) -> AsyncIterator[str]:
        """Yield the names of all repositories."""
        return self._repositories(layout.REPOSITORIES, "")

    async def _repository(self, name: str) -> None:
        self._observer.repository(name)
        revisions = await self._revisions(name)
        if not self._rules.delete_untagged:
            await self._keep_all(name, revisions)
            return
        tags = await self._tags(name)
        if tags is None:
            self._observer.tagless(name)
            tags = {}
        kept = await self._kept(name, revisions, tags)
        await self._keep_all(name, kept)
        for digest in sorted(revisions - kept):
            self._observer.untagged(name, digest, sorted(tags))
            self.marks.untagged.append((name, digest))
            if self.discarded.grows:
                await self._keep_needs(name, digest)

    async def _kept(
        self, name: str, revisions: Collection[Digest], tags: Mapping[str, Digest]
    ) -> set[Digest]:
        """Return what `tags` point to, what those need, and what refers to what is kept.

        Likewise from what was removed and can be restored, and from what is spared.
        """
        relations = self._relations.setdefault(name, Relations())
        removed = self.discarded.manifests(name)
        known = {*revisions, *removed}
        for digest in sorted(known):
            await self._learn(name, digest, relations)
        kept: set[Digest] = set()
        relations.reach([*tags.values(), *relations.doubtful, *removed], known, kept)
        for digest in sorted(known - kept):
            if digest not in kept and await self._spares(name, digest, tags):
                relations.reach([digest], known, kept)
        if kept.issuperset(revisions):
            del self._relations[name]  # nothing goes, so nobody asks again
        return kept.intersection(revisions)

    async def _spares(self, name: str, digest: Digest, tags: Collection[str]) -> bool:
        sparing = self._rules.sparing
        try:
            left = (name, digest) in self._rules.left
            return sparing is not None and await sparing.spares(name, digest, tags, left=left)
        except StorageError as error:
            self.tell(layout.revision_link(name, digest), error)
            return True

    async def _learn(self, name: str, digest: Digest, relations: Relations) -> None:
        """Note what a manifest says of others, once: its bytes can't change."""
        if digest in relations.children:
            return
        manifest = await self._manifest(name, digest, keep=False)
        if manifest is None:
            relations.doubtful.add(digest)
            return
        relations.doubtful.discard(digest)
        relations.children[digest] = tuple(child.digest for child in manifest.children)
        if manifest.subject is not None:
            relations.referrers.setdefault(manifest.subject.digest, []).append(digest)

    async def _keep_all(self, name: str, revisions: Collection[Digest]) -> None:
        """Mark the manifests of a repository that are not marked yet, and what they need."""
        known = self.marks.revisions.get(name, frozenset())
        fresh = [digest for digest in sorted(revisions) if digest not in known]
        kept = {digest for digest in fresh if await self._keep(name, digest)}
        self.marks.revisions[name] = known | kept

    async def _keep(self, name: str, digest: Digest) -> bool:
        """Mark a manifest and what it references; return whether it is still there."""
        manifest = await self._manifest(name, digest, keep=True)
        if manifest is None and not await self._exists(layout.revision_link(name, digest)):
            return False  # deleted since it was listed
        self._observer.manifest(name, digest)
        self.marks.blobs.add(digest)
        if manifest is None:
            await self._keep_repository(name)
            return True
        for digest_needed in references(manifest):
            if digest_needed not in self.marks.blobs:
                self.marks.blobs.add(digest_needed)
                self._observer.blob(name, digest_needed)
            if digest_needed.algorithm != "sha256":
                await self._keep_alias(name, digest_needed)
        return True

    async def _keep_alias(self, name: str, digest: Digest, directory: str | None = None) -> None:
        """Mark what a link of distribution points to: it stores all content by sha256."""
        link = layout.layer_link(name, digest)
        path = link if directory is None else directory + link.removeprefix(layout.repository(name))
        try:
            target = await read_link(self._storage, path)
        except PathUnknownError:
            return
        except StorageError as error:
            await self.doubt(name, path, error)
            return
        self.marks.blobs.add(target)

    async def _manifest(self, name: str, digest: Digest, *, keep: bool) -> Manifest | None:
        """Return what a manifest says; `None` if that is in doubt, or if it was deleted.

        Its own bytes are marked if they are to `keep`, or in doubt.
        """
        await self._rules.pace.step()
        places = [layout.revision(name, digest)]
        removed = self.discarded.manifests(name)
        if digest in removed:
            places.append(removed[digest])
        for attempt in range(READ_TRIES):  # pragma: no branch -- the last try returns
            for place in places:
                try:
                    return await self._parsed(place, keep=keep)
                except (StorageError, ManifestInvalidError) as error:
                    if not await self._exists(f"{place}/link"):
                        continue
                    if place is not places[0] and isinstance(error, PathUnknownError):
                        continue  # its bytes were destroyed: nobody can restore it, whatever stays
                    # It may have been deleted when it was read, and be here again.
                    if attempt == READ_TRIES - 1 or not isinstance(error, PathUnknownError):
                        await self.doubt(name, f"{place}/link", error)
                        return None
                    break
            else:
                return None
        return None

    async def _parsed(self, directory: str, *, keep: bool) -> Manifest:
        target = await read_link(self._storage, f"{directory}/link")
        try:
            content = await self._content(target)
            if Digest.of(content, target.algorithm) != target:
                raise LinkDamagedError(layout.blob(target))
            manifest = grammar.parse_stored(content) or grammar.parse(
                content, await self._noted_type(directory)
            )
        except (StorageError, ManifestInvalidError):
            self.marks.blobs.add(target)
            raise
        if keep:
            self.marks.blobs.add(target)
        return manifest

    async def _content(self, target: Digest) -> bytes:
        """Return a manifest's bytes, also those that this or a killed collection took away."""
        try:
            return await self._storage.get(layout.blob(target), STORED_LIMIT)
        except PathUnknownError:
            try:
                return await self._storage.get(layout.trash_blob(target), STORED_LIMIT)
            except PathUnknownError:
                # Whoever needs it may have brought it back between the two.
                return await self._storage.get(layout.blob(target), STORED_LIMIT)

    async def _noted_type(self, directory: str) -> str:
        try:
            noted = await self._storage.get(f"{directory}/mediatype", MEDIA_TYPE_LIMIT)
        except PathUnknownError:
            return ""
        return noted.decode("latin-1")

    async def doubt(self, name: str, path: str, error: Exception) -> None:
        """Note what can't be read, and keep all that its repository might need."""
        self.tell(path, error)
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
            if await self._exists(layout.revision_link(name, digest)):
                found.add(digest)
        return found

    async def _exists(self, path: str) -> bool:
        """Return whether there is something. If that can't be told, nothing may go at all."""
        try:
            return await self._storage.exists(path)
        except StorageError as error:
            self._give_up(path, error)
            return True

    async def _tags(self, name: str) -> dict[str, Digest] | None:
        """Return what each tag points to, or `None` without a directory of tags."""
        if not await self._exists(layout.tags(name)):
            return None
        tags: dict[str, Digest] = {}
        for tag in await self._names(layout.tags(name)):
            try:
                tags[tag] = await read_link(self._storage, layout.tag_current(name, tag))
            except PathUnknownError:
                continue
            except StorageError as error:
                # It might point to any manifest of the repository.
                await self.doubt(name, layout.tag_current(name, tag), error)
                for digest in await self._revisions(name):
                    tags[f"{tag} {digest}"] = digest
        return tags

    async def _repositories(self, directory: str, parent: str) -> AsyncIterator[str]:
        """Yield the names of all repositories, in the order of distribution's walk."""
        for entry in sorted(await self._names(directory)):
            if entry.startswith("_"):
                continue
            name = f"{parent}/{entry}" if parent else entry
            if await self._exists(layout.manifests(name)):
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
            self._give_up(path, error)
            return []

    def _give_up(self, path: str, error: StorageError) -> None:
        """Keep everything: any repository may need any blob."""
        self.marks.everything = True
        self.tell(path, error)

    def tell(self, path: str, error: Exception) -> None:
        """Tell of what can't be read, once however often it is looked at."""
        if path not in self.marks.doubts:
            self.marks.doubts.append(path)
            self._observer.doubt(path, str(error))
