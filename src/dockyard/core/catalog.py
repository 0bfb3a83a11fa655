"""The catalog: which repositories have content."""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from dockyard.core.directories import Directories
from dockyard.core.sharing import Shared
from dockyard.errors import PathUnknownError, StorageError
from dockyard.storage import layout
from dockyard.storage.interface import ABSENT, Stamp, Storage


REMEMBERED: Final = 100_000
"""Names below which repositories may be that a worker remembers: about 30 MB if it has looked at
each of them."""

BATCH: Final = 256
"""Names looked at in one go: about 1 ms."""

AHEAD: Final = 64
"""Names looked at in one go at least where only some may be shown: others will be wanted too."""


class _Folder:
    """A directory in which repositories are, and what was seen of each when it was looked at.

    Attributes:
        path: its path.
        prefix: what comes before the names in those of repositories.
        names: what is in it, in order; some may be no repositories, nor have any below.
        bare: for each the stamp with which it had nothing below that may be a repository.
        deep: where something was below that may be a repository.
        links: for each the path from here of a link that says it has content.
    """

    __slots__ = ("bare", "deep", "links", "names", "path", "prefix")

    def __init__(self, path: str, names: Sequence[str]) -> None:
        self.path: Final = path
        self.prefix: Final = f"{path}/".removeprefix(f"{layout.REPOSITORIES}/")
        self.names: Final = [name for name in names if not name.startswith("_")]
        self.bare: Final[list[Stamp]] = [ABSENT] * len(self.names)
        self.deep: Final[set[int]] = set()
        self.links: Final = [""] * len(self.names)

    def name(self, position: int) -> str:
        """Return the repository at a position."""
        return f"{self.prefix}{self.names[position]}"

    def run(self, start: int, most: int) -> int:
        """Return where the names end of which, from `start`, up to `most` were bare; one at least.

        A name that may have repositories below may alone have all that are wanted.
        """
        stop = min(start + most, len(self.names))
        try:
            return max(self.bare.index(ABSENT, start, stop), start + 1)
        except ValueError:
            return stop


@dataclass(slots=True)
class _Page:
    """A page while it is filled.

    Attributes:
        wanted: names it needs, with the one that tells that more follow.
        sees: whether a name may be shown; `None`: all may.
        found: its names; may be more than `wanted`.
        looks: names looked at since others had their turn.
    """

    wanted: int
    sees: Callable[[str], bool] | None
    found: list[str] = field(default_factory=list)
    looks: int = 0

    @property
    def lacks(self) -> int:
        """Names that are missing."""
        return self.wanted - len(self.found)

    @property
    def stride(self) -> int:
        """Names to look at in one go, at most."""
        return min(self.lacks if self.sees is None else max(self.lacks, AHEAD), BATCH)


class Catalog:
    """The repositories in the order of a walk: the separator comes before every other character.

    A repository is listed while it has a tag or a manifest; one that only has uploads, blobs or the
    empty directories of what it once had is not.

    What was seen of the tree is remembered, and each time looked at again: whether a directory has
    its stamp yet, and whether the link is there that told that a repository has content. That takes
    two system calls for a repository that is shown, and is as true as if nothing was remembered.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._shared: Final[Shared[tuple[Sequence[str], bool]]] = Shared()
        self._folders: Final = Directories(storage, _Folder, REMEMBERED)

    async def page(
        self, limit: int, last: str, sees: Callable[[str], bool] | None = None
    ) -> tuple[Sequence[str], bool]:
        """Return up to `limit` names after `last`, and if more follow; only what `sees` accepts."""
        if limit == 0:
            return [], False
        if sees is not None:
            return await self._look_through(_Page(limit + 1, sees), last)
        page = _Page(limit + 1, None)
        return await self._shared.get((limit, last), lambda: self._look_through(page, last))

    async def has_content(self, name: str) -> bool:
        """Return whether a repository has a tag or a manifest."""
        directory, _, below = layout.repository(name).rpartition("/")
        return await self._find_link(directory, below) != ""

    async def _look_through(self, page: _Page, last: str) -> tuple[Sequence[str], bool]:
        """Fill a page with what comes after `last`; return it without the name too many."""
        await self._fill(page, layout.REPOSITORIES, tuple(last.split("/")) if last else ())
        return page.found[: page.wanted - 1], page.lacks <= 0

    async def _fill(self, page: _Page, path: str, last: tuple[str, ...]) -> None:
        """Add to a page what is below `path` and comes after `last`.

        Args:
            page: the page.
            path: the path of the directory.
            last: the components of the last name seen that lie below it.
        """
        folder = await self._folder(path)
        position = 0
        if last:
            position = bisect_left(folder.names, last[0])
            if folder.names[position : position + 1] == [last[0]]:
                await self._fill(page, f"{path}/{last[0]}", last[1:])
                position += 1
        while page.lacks > 0 and position < len(folder.names):
            start, position = position, folder.run(position, page.stride)
            if start in folder.deep:
                await self._look_into(page, folder, start)
            else:
                await self._look(page, folder, start, position)
            page.looks += position - start
            if page.looks >= BATCH:
                page.looks = 0
                await asyncio.sleep(0)

    async def _look(self, page: _Page, folder: _Folder, start: int, stop: int) -> None:
        """Add to a page what is at some positions of a folder, and below."""
        stamps = await self._storage.stamps(folder.path, folder.names[start:stop])
        shown = await self._shown(page, folder, range(start, stop))
        if stamps == folder.bare[start:stop]:  # a stamp that can't be trusted equals none
            page.found += map(folder.name, shown)
            return
        for position, stamp in zip(range(start, stop), stamps, strict=True):
            if position in shown:
                page.found.append(folder.name(position))
            if page.lacks > 0 and stamp != folder.bare[position]:
                names = await self._names(f"{folder.path}/{folder.names[position]}")
                if all(name.startswith("_") for name in names):
                    folder.bare[position] = stamp or ABSENT
                else:
                    folder.bare[position] = ABSENT
                    folder.deep.add(position)
                    await self._fill(page, f"{folder.path}/{folder.names[position]}", ())

    async def _look_into(self, page: _Page, folder: _Folder, position: int) -> None:
        """Add to a page what is at a position of a folder below which something was."""
        page.found += map(folder.name, await self._shown(page, folder, [position]))
        if page.lacks > 0:
            await self._fill(page, f"{folder.path}/{folder.names[position]}", ())

    async def _shown(self, page: _Page, folder: _Folder, positions: Sequence[int]) -> Sequence[int]:
        """Return those of the positions at which a repository with content is that may be shown."""
        if page.sees is not None:
            positions = [each for each in positions if page.sees(folder.name(each))]
        links = [folder.links[position] for position in positions]
        try:
            there = await self._storage.exist(folder.path, links) if any(links) else [False]
        except StorageError:  # which of them that concerns is found below
            there = [False]
        if all(there):
            return positions
        found = list[int]()
        for place, position in enumerate(positions):
            if not (len(there) == len(links) and there[place]):
                link = await self._find_link(folder.path, folder.names[position])
                folder.links[position] = link
            if folder.links[position]:
                found.append(position)
        return found

    async def _find_link(self, directory: str, name: str) -> str:
        """Return the path below `directory` of a link that says that `name` has content, or none.

        Of a tag or, if there is none, of a manifest.
        """
        repository = f"{directory}/{name}".removeprefix(f"{layout.REPOSITORIES}/")
        manifests = layout.manifests(repository).removeprefix(f"{directory}/")
        if not await self._first(directory, [manifests]):
            return ""
        tags, revisions = layout.tags(repository), layout.revisions(repository)
        candidates = [(tags, "current/link")]
        candidates += [(f"{revisions}/{each}", "link") for each in await self._names(revisions)]
        for path, link in candidates:
            names = await self._names(path)
            for start in range(0, len(names), BATCH):
                batch = [f"{each}/{link}" for each in names[start : start + BATCH]]
                found = await self._first(path, batch)
                if found:
                    return f"{path}/{found}".removeprefix(f"{directory}/")
        return ""

    async def _first(self, path: str, links: Sequence[str]) -> str:
        try:
            there = await self._storage.exist(path, links)
        except StorageError as error:
            _report(path, error)
            return ""
        return next((link for link, exists in zip(links, there, strict=True) if exists), "")

    async def _folder(self, path: str) -> _Folder:
        try:
            return await self._folders.get(path)
        except StorageError as error:
            _report(path, error)
            return _Folder(path, ())

    async def _names(self, path: str) -> Sequence[str]:
        try:
            return await self._storage.names(path)
        except StorageError as error:
            _report(path, error)
            return ()


def _report(path: str, error: StorageError) -> None:
    """Log that a directory can't be looked at, if there is one: the others are, all the same."""
    if not isinstance(error, PathUnknownError):
        structlog.get_logger().error("directory can't be listed", path=path, err=str(error))
