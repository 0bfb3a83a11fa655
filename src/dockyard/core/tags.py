"""Tags: names that move from manifest to manifest."""

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Final

from dockyard.core.directories import Directories
from dockyard.core.links import LinkDamagedError, link, read_link
from dockyard.core.sharing import Shared
from dockyard.core.trash import Removal, Trash
from dockyard.errors import (
    ManifestUnknownError,
    PathUnknownError,
    RepositoryUnknownError,
    TagMovedError,
)
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.interface import Storage


ANYTHING = "*"
"""In a `Condition`: whatever the tag points to."""

REMEMBERED: Final = 200_000
"""Names in directories of tags that a worker remembers: about 14 MB."""

BATCH: Final = 256
"""Tags looked at in one go: about half a millisecond."""

AHEAD: Final = 16
"""Tags looked at in one go at least: where one has no link, others don't either."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What a client wants to be true when it moves a tag.

    Attributes:
        match: digests of which the tag must point to one, `ANYTHING` for any; `None`: no matter.
        none_match: digests to none of which it may point; `ANYTHING`: it mustn't exist.
    """

    match: frozenset[str] | None = None
    none_match: frozenset[str] | None = None

    def check(self, tag: str, current: Digest | None) -> None:
        """Return if the condition holds for a tag that points to `current`.

        Raises:
            TagMovedError: it doesn't.
        """
        held = set() if current is None else {str(current), ANYTHING}
        if (self.match is not None and not held & self.match) or (
            self.none_match is not None and held & self.none_match
        ):
            raise TagMovedError(tag, current=None if current is None else str(current))


UNCONDITIONAL = Condition()


class Tags:
    """The tags of all repositories."""

    def __init__(self, storage: Storage, trash: Trash) -> None:
        self._storage = storage
        self._trash = trash
        self._shared: Final[Shared[tuple[Sequence[str], bool]]] = Shared()
        self._listed: Final = Directories(storage, lambda _, names: names, REMEMBERED)

    async def resolve(self, name: str, tag: str) -> Digest:
        """Return the digest a tag points to.

        Raises:
            ManifestUnknownError: no such tag, or its link is damaged.
        """
        try:
            return await read_link(self._storage, layout.tag_current(name, tag))
        except PathUnknownError as error:
            raise ManifestUnknownError(tag) from error
        except LinkDamagedError as error:
            raise ManifestUnknownError(tag, damage="its link is damaged") from error

    async def move(
        self, name: str, tag: str, digest: Digest, condition: Condition = UNCONDITIONAL
    ) -> None:
        """Point `tag` to `digest`, noting it in the tag's history.

        Moves of one tag happen one after another, so of two clients with the same condition
        one fails.

        Raises:
            TagMovedError: `condition` does not hold; the tag is as it was.
        """
        async with self._storage.lock("tag", f"{name}:{tag}"):
            if condition is not UNCONDITIONAL:
                condition.check(tag, await self._current(name, tag))
            # The history first: a kill between the two leaves the tag where it was.
            await self._storage.put_all(
                [
                    link(layout.tag_index(name, tag, digest), digest),
                    link(layout.tag_current(name, tag), digest),
                ]
            )

    async def delete(self, name: str, tag: str) -> None:
        """Move a tag, with its history, to the trash; the manifest stays.

        Raises:
            ManifestUnknownError: no such tag.
        """
        async with self._storage.lock("tag", f"{name}:{tag}"):
            try:
                await self._trash.removal(name).add(layout.tag(name, tag))
            except PathUnknownError as error:
                raise ManifestUnknownError(tag) from error

    async def pointing(self, name: str, digest: Digest) -> list[str]:
        """Return the tags that point to `digest`."""
        return [tag for tag in await self._names(name) if await self._current(name, tag) == digest]

    async def untag(self, name: str, digest: Digest, removal: Removal) -> None:
        """Remove every tag that points to `digest`, as a part of `removal`."""
        for tag in await self._names(name):
            if await self._current(name, tag) != digest:
                continue
            async with self._storage.lock("tag", f"{name}:{tag}"):
                if await self._current(name, tag) == digest:
                    await removal.add(layout.tag(name, tag))

    async def page(self, name: str, limit: int | None, last: str) -> tuple[Sequence[str], bool]:
        """Return up to `limit` tags after `last`, in the order of their bytes, and if more follow.

        Raises:
            RepositoryUnknownError: no such repository.
        """
        return await self._shared.get(
            (name, limit, last), lambda: self._look_through(name, limit, last)
        )

    async def _look_through(
        self, name: str, limit: int | None, last: str
    ) -> tuple[Sequence[str], bool]:
        path = layout.tags(name)
        try:
            names = await self._listed.get(path)
        except PathUnknownError:
            names = ()
        if not names and not await self._storage.exists(layout.manifests(name)):
            raise RepositoryUnknownError(name)
        found: list[str] = []
        wanted = len(names) if limit is None else limit + 1  # one more tells that more follow
        position = bisect_right(names, last)
        while position < len(names) and len(found) < wanted:
            batch = names[position : position + min(max(wanted - len(found), AHEAD), BATCH)]
            # A directory without its link is a tag half deleted or not yet made.
            links = [layout.tag_current(name, tag).removeprefix(f"{path}/") for tag in batch]
            found += compress(batch, await self._storage.exist(path, links))
            position += len(batch)
            if position < len(names):
                await asyncio.sleep(0)
        return found[:limit], limit is not None and len(found) > limit

    async def _names(self, name: str) -> Sequence[str]:
        try:
            return await self._storage.names(layout.tags(name))
        except PathUnknownError:
            return ()

    async def _current(self, name: str, tag: str) -> Digest | None:
        try:
            return await self.resolve(name, tag)
        except ManifestUnknownError:
            return None
