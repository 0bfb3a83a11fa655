"""What was made of the names in directories, as long as these have not changed."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from dockyard.storage.interface import Stamp, Storage


OVERHEAD: Final = 10
"""Names whose memory a directory takes by itself: about 600 bytes."""

T = TypeVar("T")


class Directories(Generic[T]):
    """Directories that are listed again only once names came to or left them.

    Whether they did is looked up each time, by the stamp. A directory that changed a moment ago,
    whose stamp can't be trusted, is listed each time.

    Args:
        storage: where they are.
        make: what is wanted of a directory, of its path and its names in order.
        most: names that are remembered, over all directories; of those asked for last.
    """

    def __init__(
        self, storage: Storage, make: Callable[[str, Sequence[str]], T], most: int
    ) -> None:
        self._storage = storage
        self._make = make
        self._most = most
        self._known: Final[OrderedDict[str, tuple[Stamp, int, T]]] = OrderedDict()
        self._names = 0

    @property
    def remembered(self) -> int:
        """Names that are remembered, with the `OVERHEAD` of their directories."""
        return self._names

    async def get(self, path: str) -> T:
        """Return what `make` made of the names that are in the directory at `path`.

        Raises:
            PathUnknownError: there is no directory.
        """
        # Before the names: what comes between the two looks is found by the next stamp.
        stamp = await self._storage.stamp(path)
        known = self._known.get(path)
        if known is not None:
            if known[0] == stamp:
                self._known.move_to_end(path)
                return known[2]
            self._drop(path)
        names = await self._storage.names(path)
        made = self._make(path, names)
        if stamp is not None:
            self._keep(path, stamp, len(names) + OVERHEAD, made)
        return made

    def _keep(self, path: str, stamp: Stamp, size: int, made: T) -> None:
        self._drop(path)  # another request may have listed it meanwhile
        if size > self._most:
            return
        self._known[path] = stamp, size, made
        self._names += size
        while self._names > self._most:
            self._drop(next(iter(self._known)))

    def _drop(self, path: str) -> None:
        if path in self._known:
            self._names -= self._known.pop(path)[1]
