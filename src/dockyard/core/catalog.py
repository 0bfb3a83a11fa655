"""The catalog: which repositories have content."""

from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from dockyard.errors import PathUnknownError, StorageError
from dockyard.storage import layout
from dockyard.storage.interface import Storage


class Catalog:
    """The repositories in the order of a walk: the separator comes before every other character.

    A repository is listed while it has a tag or a manifest; one that only has uploads, blobs or the
    empty directories of what it once had is not.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def page(
        self, limit: int, last: str, sees: Callable[[str], bool] | None = None
    ) -> tuple[Sequence[str], bool]:
        """Return up to `limit` names after `last`, and if more follow; only what `sees` accepts."""
        found: list[str] = []
        if limit == 0:
            return found, False
        async for name in self._walk("", tuple(last.split("/")) if last else ()):
            if (sees is not None and not sees(name)) or not await self.has_content(name):
                continue
            if len(found) == limit:
                return found, True
            found.append(name)
        return found, False

    async def has_content(self, name: str) -> bool:
        """Return whether a repository has a tag or a manifest."""
        for tag in await self._directories(layout.tags(name)):
            if await self._storage.exists(layout.tag_current(name, tag)):
                return True
        for algorithm in await self._directories(layout.revisions(name)):
            directory = f"{layout.revisions(name)}/{algorithm}"
            for revision in await self._directories(directory):
                if await self._storage.exists(f"{directory}/{revision}/link"):
                    return True
        return False

    async def _walk(self, parent: str, last: tuple[str, ...]) -> AsyncIterator[str]:
        """Yield the names below `parent` that are repositories and come after `last`.

        Args:
            parent: a name, or nothing for the root.
            last: the components of the last name seen that lie below `parent`.
        """
        entries = await self._directories(layout.repository(parent).rstrip("/"))
        for entry in sorted(entry for entry in entries if not entry.startswith("_")):
            if last and entry < last[0]:
                continue
            below = last[1:] if last and entry == last[0] else ()
            name = f"{parent}/{entry}" if parent else entry
            if not (last and entry == last[0]):
                yield name
            async for deeper in self._walk(name, below):
                yield deeper

    async def _directories(self, path: str) -> Sequence[str]:
        try:
            return [entry.name for entry in await self._storage.list(path) if entry.is_directory]
        except PathUnknownError:
            return ()
        except StorageError as error:  # the others are listed all the same
            structlog.get_logger().error("directory can't be listed", path=path, err=str(error))
            return ()
