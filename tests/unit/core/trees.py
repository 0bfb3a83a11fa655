"""Trees of docker-distribution, written by hand, and a storage that counts what is asked of it."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from typing_extensions import override

from dockyard.core.blobs import Blobs
from dockyard.core.leases import Leases
from dockyard.core.manifests import Manifests
from dockyard.core.policy import Policy
from dockyard.core.tags import Tags
from dockyard.core.trash import Trash
from dockyard.oci.digest import Digest
from dockyard.storage import layout
from dockyard.storage.files import FileReader
from dockyard.storage.filesystem import FilesystemStorage
from dockyard.storage.interface import Entry, Stamp, Storage


NOW: Final = datetime(2026, 1, 31, 12, tzinfo=UTC)


def now() -> datetime:
    return NOW


def manifests_on(storage: Storage) -> Manifests:
    """Return the manifests on `storage`; whatever they refer to may be missing."""
    leases, trash = Leases(storage), Trash(storage)
    policy = Policy(sparse=True)
    return Manifests(
        storage, blobs_on(storage), Tags(storage, Trash(storage)), policy, leases, trash
    )


def blobs_on(storage: Storage) -> Blobs:
    """Return the blobs on `storage`."""
    return Blobs(storage, Leases(storage), Trash(storage))


async def add_tag(storage: Storage, name: str, tag: str, content: bytes = b"{}") -> Digest:
    """Write what distribution writes for a push of `content` as `tag`."""
    digest = await add_revision(storage, name, content)
    link = str(digest).encode()
    await storage.put(layout.tag_index(name, tag, digest), link)
    await storage.put(layout.tag_current(name, tag), link)
    return digest


async def add_revision(storage: Storage, name: str, content: bytes = b"{}") -> Digest:
    """Write what distribution writes for a push of `content` by its digest."""
    digest = Digest.of(content)
    await storage.put(layout.blob(digest), content)
    await storage.put(layout.revision_link(name, digest), str(digest).encode())
    return digest


class CountingStorage(FilesystemStorage):
    """Counts the calls that a cache should save."""

    lists = 0
    gets = 0
    opens = 0
    named: list[str]
    looked_at: list[str]

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.named = []
        self.looked_at = []

    @override
    async def names(self, path: str) -> Sequence[str]:
        self.named.append(path)
        return await super().names(path)

    @override
    async def exist(self, directory: str, names: Sequence[str]) -> Sequence[bool]:
        self.looked_at += (f"{directory}/{name}" for name in names)
        return await super().exist(directory, names)

    @override
    async def stamps(self, directory: str, names: Sequence[str]) -> Sequence[Stamp | None]:
        self.looked_at += (f"{directory}/{name}" for name in names)
        return await super().stamps(directory, names)

    @override
    async def list(self, path: str) -> Iterable[Entry]:
        self.lists += 1
        return await super().list(path)

    @override
    async def get(self, path: str, limit: int) -> bytes:
        self.gets += 1
        return await super().get(path, limit)

    @override
    async def open(self, path: str) -> FileReader:
        self.opens += 1
        return await super().open(path)
