"""Storages that fail as disks do."""

from collections.abc import Iterable

from typing_extensions import override

from dockyard.errors import StorageError
from dockyard.storage.inmemory import InMemoryStorage
from dockyard.storage.interface import Entry


class Unreadable(InMemoryStorage):
    """A storage in memory of which some paths can't be read, but written."""

    def __init__(self, *paths: str) -> None:
        super().__init__()
        self.paths = set(paths)

    @override
    async def get(self, path: str, limit: int) -> bytes:
        self._check(path)
        return await super().get(path, limit)

    @override
    async def list(self, path: str) -> Iterable[Entry]:
        self._check(path)
        return await super().list(path)

    def _check(self, path: str) -> None:
        if path in self.paths:
            raise StorageError(f"{path}: Input/output error")
