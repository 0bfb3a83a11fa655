"""What the trash has of repositories, as a collection sees it."""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from dockyard.core.trash import Item, Trash
from dockyard.oci.digest import Digest


class Discarded:
    """The items that were in the trash at the last look.

    All that is there keeps what it needs until it is destroyed, also what was kept long enough: as
    long it can be restored.

    Args:
        trash: has them; `None`: there are none.
    """

    def __init__(self, trash: Trash | None) -> None:
        self._trash: Final = trash
        self._items: Final[dict[str, list[Item]]] = {}
        self._manifests: dict[str, dict[Digest, str]] = {}
        self._left_out: Final[set[str]] = set()

    @property
    def grows(self) -> bool:
        """Whether what a collection drops comes to the trash, instead of being destroyed."""
        return self._trash is not None and self._trash.keeps

    def leave_out(self, identifiers: Collection[str]) -> None:
        """Take these items for destroyed."""
        self._left_out.update(identifiers)

    async def look(self, name: str | None = None) -> None:
        """Look at all items, or at those that are new or of the repository `name`.

        Raises:
            StorageError: what is there can't be told.
        """
        if self._trash is None:
            return
        there = [each for each in await self._trash.identifiers() if each not in self._left_out]
        for identifier in self._items.keys() - set(there):
            del self._items[identifier]
        for identifier in there:
            known = self._items.get(identifier)
            if name is None or not known or any(item.name == name for item in known):
                self._items[identifier] = await self._trash.parts(identifier)
        self._manifests = {}
        for item in self.items():
            self._manifests.setdefault(item.name, {}).update(item.manifests)

    def items(self) -> Iterator[Item]:
        """Yield the items."""
        for parts in list(self._items.values()):
            yield from parts

    def manifests(self, name: str) -> Mapping[Digest, str]:
        """Return the manifests that were removed from a repository, with their directories."""
        return self._manifests.get(name, {})
