"""Removing repositories, and bringing back what was removed, or what tags pointed to."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from dockyard.core.manifests import Manifests
from dockyard.core.tags import Tags
from dockyard.core.trash import Item, Trash, digests_of
from dockyard.errors import (
    ItemUnknownError,
    ManifestBlobsUnknownError,
    ManifestInvalidError,
    ManifestUnknownError,
    NoEarlierManifestError,
    PathUnknownError,
    RegistryError,
    RepositoryUnknownError,
)
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.interface import Storage


class Whereabouts(Enum):
    """Where a manifest of a tag's history is now."""

    CURRENT = "current"
    """The tag points to it."""
    KEPT = "kept"
    """The repository has it."""
    TRASH = "trash"
    """It was removed and can be restored."""
    GONE = "gone"
    """It was collected."""


@dataclass(frozen=True, slots=True)
class Past:
    """What a tag points to, or once did.

    Attributes:
        digest: the manifest.
        moved: when the tag came to point to it last.
        whereabouts: where the manifest is now.
        item: the item of the trash that has it, if it is there.
    """

    digest: Digest
    moved: datetime
    whereabouts: Whereabouts
    item: str | None = None


@dataclass(slots=True)
class Restored:
    """What came back to a repository.

    Attributes:
        name: the repository.
        manifests: manifests that are there again.
        tags: tags that are there again.
        taken: tags that stay as they are, since they were set again meanwhile; they have the
            restored tag's history, so `Removals.rollback` finds it.
        incomplete: manifests that stay in the trash, with what they lack.
    """

    name: str
    manifests: list[Digest] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    incomplete: dict[Digest, str] = field(default_factory=dict)


class Removals:
    """Removals, and their undoing."""

    def __init__(self, storage: Storage, manifests: Manifests, tags: Tags, trash: Trash) -> None:
        self._storage = storage
        self._manifests = manifests
        self._tags = tags
        self._trash = trash

    async def remove_repository(self, name: str) -> None:
        """Move all of a repository to the trash; its uploads in progress end.

        Repositories below it, such as ``a/b`` below ``a``, stay.

        Raises:
            RepositoryUnknownError: there is no such repository.
        """
        directory = layout.repository(name)
        parts = [layout.manifests(name), f"{directory}/_layers"]
        async with self._storage.lock("repository", name):
            removal, found = self._trash.removal(name), False
            for part in parts:
                with suppress(PathUnknownError):
                    await removal.add(part)
                    found = True
            with suppress(PathUnknownError):
                await self._storage.delete(layout.uploads(name))
        if not found:
            raise RepositoryUnknownError(name)

    async def items(self, name: str | None = None) -> list[Item]:
        """Return what was removed, from the repository `name` or from any, the oldest first."""
        return [item for item in await self._trash.items() if name in {None, item.name}]

    async def destroy(self, identifier: str) -> None:
        """Destroy an item of the trash.

        Raises:
            ItemUnknownError: there is no such item.
        """
        try:
            await self._trash.destroy(identifier)
        except PathUnknownError as error:
            raise ItemUnknownError(identifier) from error

    async def history(self, name: str, tag: str) -> list[Past]:
        """Return what a tag points to and once did, the newest first; also of a removed tag.

        Raises:
            ManifestUnknownError: the repository never had the tag, as far as anything tells.
        """
        items = await self.items(name)
        moves = await self._moves(layout.tag(name, tag))
        for item in items:
            if tag in item.tags:
                removed = await self._moves(f"{item.directory}/_manifests/tags/{tag}")
                moves = {**removed, **moves}
        try:
            current = await self._tags.resolve(name, tag)
        except ManifestUnknownError:
            current = None
            if not moves:
                raise
        # A file's time is counted in the kernel's ticks, so two moves may have the same.
        ordered = sorted(
            moves.items(), key=lambda move: (move[0] == current, move[1]), reverse=True
        )
        return [await self._past(name, move, current, items) for move in ordered]

    async def rollback(self, name: str, tag: str, digest: Digest | None = None) -> Digest:
        """Point a tag to what it pointed to before, or to `digest`; return that.

        A manifest that was removed is restored for it.

        Raises:
            ManifestUnknownError: no such tag, or the repository does not have `digest` any more, or
                it lacks something.
            NoEarlierManifestError: the tag's history has nothing else that is still there.
        """
        history = await self.history(name, tag)
        if digest is None:
            past = next((past for past in history if past.whereabouts in _USABLE), None)
            if past is None:
                raise NoEarlierManifestError(tag)
            digest = past.digest
        restored = Restored(name)
        # Alone from here to the tag: no collection drops the manifest before the tag points to it.
        async with self._storage.lock("repository", name):
            await self._restore_manifests([digest], await self.items(name), restored)
            if digest in restored.incomplete:
                raise ManifestUnknownError(str(digest), damage=restored.incomplete[digest])
            await self._tags.move(name, tag, digest)
        return digest

    async def restore(self, identifier: str) -> Restored:
        """Bring back an item of the trash to where it was; return what came back.

        Manifests that its tags or manifests need come back too, if other items have them.

        Raises:
            ItemUnknownError: there is no such item.
        """
        found = await self._trash.item(identifier)
        if found is None:
            raise ItemUnknownError(identifier)
        name = found.name
        restored = Restored(name)
        async with self._storage.lock("repository", name):
            item = await self._trash.item(identifier)  # all of it: whoever removes holds the lock
            if item is None:
                raise ItemUnknownError(identifier)
            await self._restore_links(name, item.blobs, [item])
            pointed = [each for each in item.tags.values() if each is not None]
            wanted = dict.fromkeys([*item.manifests, *pointed])
            others = [each for each in await self.items(name) if each.identifier != identifier]
            await self._restore_manifests([*wanted], [*others, item], restored)
            for tag, target in item.tags.items():
                await self._restore_tag(item, tag, target, restored)
            if not restored.incomplete:
                with suppress(PathUnknownError):
                    await self._trash.drop(identifier)
        return restored

    async def _restore_manifests(
        self, wanted: Sequence[Digest], items: Sequence[Item], restored: Restored
    ) -> None:
        """Move manifests back that `items` have, the last of them first, and what those need.

        They are moved, then looked at whether all they need is there: so a collection that takes a
        blob meanwhile either sees the manifest or is seen. Those that lack something, and what
        needs those, go back to the trash. To be called with the repository's lock held.
        """
        name = restored.name
        places = {digest: place for item in items for digest, place in item.manifests.items()}
        standing, fresh, moved = dict.fromkeys(wanted), list(wanted), list[Digest]()
        lost: set[str] = set()
        while True:
            for digest in fresh:
                place = places.get(digest)
                target = layout.revision(name, digest)
                if place is not None and await self._move_unless_there(place, target):
                    moved.append(digest)
            lacking = await self._lacking(name, standing)
            needed = {each for error in lacking.values() for each in _missing(error)}
            linked = await self._restore_links(name, needed, items)
            lost |= linked
            fresh = await self._children(name, fresh, {*standing, *restored.incomplete}, places)
            standing |= dict.fromkeys(fresh)
            if not lacking and not fresh:
                break
            if not fresh and not linked:
                for digest, error in lacking.items():
                    restored.incomplete[digest] = str(error)
                    del standing[digest]
                    if digest in moved:
                        await self._storage.move(layout.revision(name, digest), places[digest])
                        moved.remove(digest)
        restored.manifests += [each for each in standing if each in {*wanted, *moved}]
        lost |= {item.identifier for item in items if item.manifests.keys() & {*moved}}
        await self._discard_emptied(lost)

    async def _children(
        self,
        name: str,
        parents: Iterable[Digest],
        known: Collection[Digest],
        removed: Collection[Digest],
    ) -> list[Digest]:
        """Return the manifests that `parents` list, not `known`, here or `removed`."""
        found: dict[Digest, None] = {}
        for parent in parents:
            for child in await self._manifests.children(name, parent):
                here = child in removed or await self._storage.exists(
                    layout.revision_link(name, child)
                )
                if here and child not in known:
                    found[child] = None
        return list(found)

    async def _restore_links(
        self, name: str, digests: Collection[Digest], items: Iterable[Item]
    ) -> set[str]:
        """Move links to those of `digests` back that `items` have; return these items."""
        had: set[str] = set()
        for item in items:
            for digest in item.blobs:
                if digest in digests:
                    place = f"{item.directory}/_layers/{digest.algorithm}/{digest.hex}"
                    target = layout.layer_link(name, digest).removesuffix("/link")
                    if await self._move_unless_there(place, target):
                        had.add(item.identifier)
        return had

    async def _lacking(self, name: str, digests: Collection[Digest]) -> dict[Digest, RegistryError]:
        """Return the manifests that can't be served whole, with what is wrong."""
        found: dict[Digest, RegistryError] = {}
        for digest in digests:
            try:
                await self._manifests.references(name, digest)
            except (ManifestBlobsUnknownError, ManifestUnknownError, ManifestInvalidError) as error:
                found[digest] = error
        return found

    async def _discard_emptied(self, identifiers: Iterable[str]) -> None:
        """Destroy those items in which nothing is left."""
        for identifier in identifiers:
            left = await self._trash.item(identifier)
            if left is not None and not (left.manifests or left.tags or left.blobs):
                with suppress(PathUnknownError):
                    await self._trash.drop(identifier)

    async def _restore_tag(
        self, item: Item, tag: str, digest: Digest | None, restored: Restored
    ) -> None:
        name, place = item.name, f"{item.directory}/_manifests/tags/{tag}"
        if digest is not None and digest in restored.incomplete:
            return
        async with self._storage.lock("tag", f"{name}:{tag}"):
            if await self._move_unless_there(place, layout.tag(name, tag)):
                restored.tags.append(tag)
                return
            for past in await self._moves(place):
                target = layout.tag_index(name, tag, past).removesuffix("/link")
                await self._move_unless_there(f"{place}/index/{past.algorithm}/{past.hex}", target)
            # A directory without its link is a tag half made: the last thing that happened to it.
            current = layout.tag_current(name, tag).removesuffix("/link")
            back = await self._move_unless_there(f"{place}/current", current)
            (restored.tags if back else restored.taken).append(tag)

    async def _move_unless_there(self, source: str, target: str) -> bool:
        if await self._storage.exists(target):
            return False
        try:
            await self._storage.move(source, target)
        except PathUnknownError:
            return False
        return True

    async def _moves(self, directory: str) -> dict[Digest, datetime]:
        """Return when a tag, whose directory is given, came to point to each manifest last."""
        found: dict[Digest, datetime] = {}
        for algorithm in await self._names(f"{directory}/index"):
            names = await self._names(f"{directory}/index/{algorithm}")
            for digest in digests_of(algorithm, names):
                link = f"{directory}/index/{algorithm}/{digest.hex}/link"
                with suppress(PathUnknownError):
                    found[digest] = await self._storage.modified(link)
        return found

    async def _past(
        self,
        name: str,
        move: tuple[Digest, datetime],
        current: Digest | None,
        items: Sequence[Item],
    ) -> Past:
        digest, moved = move
        if digest == current:
            return Past(digest, moved, Whereabouts.CURRENT)
        if await self._storage.exists(layout.revision_link(name, digest)):
            return Past(digest, moved, Whereabouts.KEPT)
        for item in reversed(items):
            if digest in item.manifests:
                return Past(digest, moved, Whereabouts.TRASH, item.identifier)
        return Past(digest, moved, Whereabouts.GONE)

    async def _names(self, path: str) -> list[str]:
        try:
            return sorted(entry.name for entry in await self._storage.list(path))
        except PathUnknownError:
            return []


def _missing(error: RegistryError) -> list[Digest]:
    """Return what a manifest lacks."""
    lacked = error.digests if isinstance(error, ManifestBlobsUnknownError) else ()
    return [Digest.parse(text) for text in lacked]


_USABLE = frozenset({Whereabouts.KEPT, Whereabouts.TRASH})
"""Where a manifest is to which a tag can be rolled back."""
