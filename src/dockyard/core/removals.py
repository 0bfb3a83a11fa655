"""Removing repositories, and bringing back what was removed, or what tags pointed to."""

from collections.abc import Collection, Mapping, Sequence
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
        ordered = sorted(moves.items(), key=lambda move: move[1], reverse=True)
        return [await self._past(name, move, current, items) for move in ordered]

    async def rollback(self, name: str, tag: str, digest: Digest | None = None) -> Digest:
        """Point a tag to what it pointed to before, or to `digest`; return that.

        A manifest that was removed is restored for it.

        Raises:
            ManifestUnknownError: no such tag, or the repository does not have `digest` any more.
            NoEarlierManifestError: the tag's history has nothing else that is still there.
        """
        history = await self.history(name, tag)
        past = next((past for past in history if past.digest == digest), None)
        if digest is None:
            past = next((past for past in history if past.whereabouts in _USABLE), None)
            if past is None:
                raise NoEarlierManifestError(tag)
            digest = past.digest
        restored = Restored(name)
        # Alone from here to the tag: no collection drops the manifest before the tag points to it.
        async with self._storage.lock("repository", name):
            await self._bring_back(name, [digest], {}, restored)
            if digest in restored.incomplete:
                why = restored.incomplete[digest]
                raise ManifestUnknownError(str(digest), damage=f"not whole any more: {why}")
            await self._tags.move(name, tag, digest)
        return digest

    async def restore(self, identifier: str) -> Restored:
        """Bring back an item of the trash to where it was; return what came back.

        A manifest comes back if all that it needs is there, and a tag with what it points to, which
        other items may have.

        Raises:
            ItemUnknownError: there is no such item.
        """
        item = await self._trash.item(identifier)
        if item is None:
            raise ItemUnknownError(identifier)
        name, restored = item.name, Restored(item.name)
        # Held from the first move to the last tag: no collection drops a manifest between the two.
        async with self._storage.lock("repository", name):
            item = await self._trash.item(identifier)
            if item is None:  # it was restored or destroyed before we had the lock
                raise ItemUnknownError(identifier)
            for digest in item.blobs:
                target = layout.layer_link(name, digest).removesuffix("/link")
                place = f"{item.directory}/_layers/{digest.algorithm}/{digest.hex}"
                await self._move_unless_there(place, target)
            pointed = [digest for digest in item.tags.values() if digest is not None]
            wanted = list(dict.fromkeys([*item.manifests, *pointed]))
            await self._bring_back(name, wanted, item.manifests, restored)
            for tag, pointed_to in item.tags.items():
                if pointed_to is None or pointed_to not in restored.incomplete:
                    await self._restore_tag(item, tag, restored)
            if not restored.incomplete:
                with suppress(PathUnknownError):
                    await self._trash.drop(identifier)
        return restored

    async def _bring_back(
        self,
        name: str,
        wanted: Sequence[Digest],
        first: Mapping[Digest, str],
        restored: Restored,
    ) -> None:
        """Move the links of manifests, and of those they list, back from the trash; then look.

        In this order, so that a collection that takes a blob meanwhile either sees the manifest or
        is seen. One that lacks something goes back to the trash. To be called with the
        repository's lock held.

        Args:
            name: the repository.
            wanted: the manifests; they may be in the repository already.
            first: where to take manifests from, before any other item is looked into.
            restored: is told what came back, and what did not.
        """
        places = {
            digest: place
            for item in await self.items(name)
            for digest, place in item.manifests.items()
        } | dict(first)
        known, moved, waiting = list[Digest](), dict[Digest, str](), list(reversed(wanted))
        while waiting:
            digest = waiting.pop()
            if digest in known:
                continue
            known.append(digest)
            place = places.get(digest)
            if place and await self._move_unless_there(place, layout.revision(name, digest)):
                moved[digest] = place
            waiting += await self._manifests.children(name, digest)
        await self._return_incomplete(name, known, moved, restored)
        restored.manifests += [
            each for each in known if each in {*wanted, *moved} and each not in restored.incomplete
        ]
        await self._tidy(name, set(moved.values()) - set(first.values()))

    async def _return_incomplete(
        self, name: str, known: Sequence[Digest], moved: Mapping[Digest, str], restored: Restored
    ) -> None:
        """Move what lacks something back to the trash; then what lacks that, and so on."""
        lacking: dict[Digest, str] | None = None
        while lacking is None or lacking:
            lacking = {}
            for digest in known:
                if digest not in restored.incomplete and (why := await self._lack(name, digest)):
                    lacking[digest] = why
            for digest in moved.keys() & lacking.keys():
                with suppress(PathUnknownError):
                    await self._storage.move(layout.revision(name, digest), moved[digest])
            restored.incomplete |= lacking

    async def _lack(self, name: str, digest: Digest) -> str | None:
        """Return what a manifest of a repository lacks, in words, if it is not whole."""
        try:
            await self._manifests.references(name, digest)
        except (ManifestBlobsUnknownError, ManifestUnknownError, ManifestInvalidError) as error:
            return str(error)
        return None

    async def _tidy(self, name: str, places: Collection[str]) -> None:
        """Destroy the items from which the last was taken."""
        for item in await self.items(name) if places else ():
            emptied = not (item.manifests or item.tags or item.blobs)
            if emptied and any(place.startswith(f"{item.directory}/") for place in places):
                with suppress(PathUnknownError):
                    await self._trash.drop(item.identifier)

    async def _restore_tag(self, item: Item, tag: str, restored: Restored) -> None:
        name, place = item.name, f"{item.directory}/_manifests/tags/{tag}"
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


_USABLE = frozenset({Whereabouts.KEPT, Whereabouts.TRASH})
"""Where a manifest is to which a tag can be rolled back."""
