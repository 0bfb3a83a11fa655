"""The trash: collected blobs, and what was removed from repositories, until it is destroyed.

A *blob* that a collection takes away is moved here, and moved back by whoever turns out to need it.

An *item* is what was removed from one repository at one time: a tag with its history, a manifest
with its tags, a link to a blob, or all of the repository. It lies here in the shape it had there,
each part moved by one rename, so that removing needs no room, and what is here says by itself what
it was. Collections keep the blobs that its manifests need, until it is destroyed.
"""

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from dockyard.clock import Clock, utc_now
from dockyard.core.links import read_link
from dockyard.errors import DigestInvalidError, PathUnknownError, StorageError, StorageFullError
from dockyard.oci.digest import Digest
from dockyard.oci.reference import is_name
from dockyard.storage import layout
from dockyard.storage.interface import Storage


TIME_FORM: Final = "%Y%m%dT%H%M%SZ"
"""How an item's name begins: the time it was removed, so that names sort by it."""

_IDENTIFIER: Final = re.compile(r"([0-9]{8}T[0-9]{6}Z)-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Item:
    """What was removed from a repository at one time.

    Attributes:
        identifier: its name in the trash.
        name: the repository.
        removed: when.
        manifests: the manifests in it, with the directory of each.
        tags: the tags in it, with what each pointed to, if that can be read.
        blobs: the blobs whose links are in it.
    """

    identifier: str
    name: str
    removed: datetime
    manifests: Mapping[Digest, str]
    tags: Mapping[str, Digest | None]
    blobs: Sequence[Digest]

    @property
    def directory(self) -> str:
        """Where its parts lie, in the shape of a repository."""
        return layout.trash_item_repository(self.identifier, self.name)


class Removal:
    """The removal of something from a repository, part by part."""

    def __init__(self, storage: Storage, name: str, identifier: str | None) -> None:
        self._storage = storage
        self._name = name
        self._identifier = identifier

    async def add(self, path: str) -> None:
        """Remove what is at `path`, below the repository's directory.

        Raises:
            PathUnknownError: there is nothing.
        """
        if self._identifier is None:
            await self._storage.delete(path)
            return
        below = path.removeprefix(layout.repository(self._name))
        target = f"{layout.trash_item_repository(self._identifier, self._name)}{below}"
        try:
            await self._storage.move(path, target)
        except StorageFullError:
            # Who deletes on a full disk wants room more than a way back.
            structlog.get_logger().warning("no room in the trash: removed for good", path=path)
            await self._storage.delete(path)


class Trash:
    """What can be brought back.

    Args:
        storage: where it lies.
        keep: how long items are kept; zero: what is removed is destroyed at once.
        clock: tells the time.
    """

    def __init__(
        self, storage: Storage, keep: timedelta = timedelta(0), clock: Clock = utc_now
    ) -> None:
        self._storage = storage
        self._keep = keep
        self._clock = clock

    # Blobs

    async def take(self, digest: Digest) -> None:
        """Take a blob away.

        Raises:
            PathUnknownError: it is not there.
        """
        await self._storage.move(layout.blob(digest), layout.trash_blob(digest))

    async def take_all(self, digests: Sequence[Digest]) -> Mapping[Digest, StorageError | None]:
        """Take blobs away; return for each nothing, or why it was not."""
        sources = {layout.blob(digest): digest for digest in digests}
        moves = [(path, layout.trash_blob(digest)) for path, digest in sources.items()]
        results = await self._storage.move_all(moves)
        return {sources[path]: error for path, error in results.items()}

    async def bring_back(self, digest: Digest) -> bool:
        """Put a blob back if it is in the trash; return whether it is in its place now.

        One that was pushed again meanwhile stays as it is: it may have been pushed to heal it.
        """
        # Its place is looked at before and after the trash: a collection may take it meanwhile, or
        # bring it back. And the trash before the move: on a read-only file system even moving what
        # is not there is an error.
        if await self._storage.exists(layout.blob(digest)):
            return True
        if not await self._storage.exists(layout.trash_blob(digest)):
            return await self._storage.exists(layout.blob(digest))
        try:
            await self._storage.move(layout.trash_blob(digest), layout.blob(digest))
        except PathUnknownError:
            return await self._storage.exists(layout.blob(digest))
        structlog.get_logger().info("brought back from the trash", digest=str(digest))
        return True

    async def blobs(self) -> list[Digest]:
        """Return the blobs that are in the trash."""
        return [
            digest
            for algorithm in await self._names(layout.trash_blobs("").rstrip("/"))
            for digest in digests_of(algorithm, await self._names(layout.trash_blobs(algorithm)))
        ]

    async def is_older(self, digest: Digest, age: timedelta) -> bool:
        """Return whether a blob has been in the trash for longer than `age`."""
        if not age:
            return True
        try:
            return await self._storage.age(layout.trash_blob(digest)) > age.total_seconds()
        except PathUnknownError:
            return False

    async def size(self, digest: Digest) -> int:
        """Return the length in bytes of a blob that is in the trash."""
        return await self._storage.size(layout.trash_blob(digest))

    async def empty(self, digests: Collection[Digest]) -> None:
        """Destroy blobs that are in the trash; those that were brought back stay."""
        await self._storage.delete_all([layout.trash_blob(digest) for digest in digests])

    # Items

    @property
    def keeps(self) -> bool:
        """Whether what is removed can be restored."""
        return self._keep > timedelta(0)

    def removal(self, name: str) -> Removal:
        """Return a removal from the repository `name`: what is added to it becomes one item."""
        if not self.keeps:
            return Removal(self._storage, name, None)
        now = self._clock().astimezone(UTC)
        return Removal(self._storage, name, f"{now:{TIME_FORM}}-{secrets.token_hex(4)}")

    async def items(self) -> list[Item]:
        """Return what was removed and is still kept, the oldest first."""
        found: list[Item] = []
        for identifier, removed in await self._identifiers():
            if not self._is_over(removed):
                found += await self._read(identifier, removed)
        return found

    async def identifiers(self) -> list[str]:
        """Return the names of all items that are there, also of those not kept any longer."""
        return [identifier for identifier, _ in await self._identifiers()]

    async def parts(self, identifier: str) -> list[Item]:
        """Return what an item has, by repository; nothing if there is none of that name."""
        removed = _time_of(identifier)
        return [] if removed is None else await self._read(identifier, removed)

    async def item(self, identifier: str) -> Item | None:
        """Return one item, or `None` if there is none of that name."""
        found = await self.parts(identifier)
        return found[0] if found else None

    async def destroy(self, identifier: str) -> None:
        """Destroy an item; the blobs that nothing else needs go with the next collection.

        With the lock of its repository, so that a restore finds all of it or nothing.

        Raises:
            PathUnknownError: there is no such item.
        """
        item = await self.item(identifier)
        if item is None:
            await self.drop(identifier)  # nothing that could be restored
            return
        async with self._storage.lock("repository", item.name):
            await self.drop(identifier)

    async def drop(self, identifier: str) -> None:
        """Destroy an item whose repository's lock is held.

        Raises:
            PathUnknownError: there is no such item.
        """
        if _time_of(identifier) is None:
            raise PathUnknownError(identifier)
        await self._storage.delete(layout.trash_item(identifier))

    async def over(self) -> list[str]:
        """Return the names of the items that were kept long enough, the oldest first."""
        return [name for name, removed in await self._identifiers() if self._is_over(removed)]

    async def left(self) -> set[tuple[str, Digest]]:
        """Return the manifests that removed tags ever pointed to, with their repositories."""
        return {
            (item.name, digest)
            for identifier, removed in await self._identifiers()
            for item in await self._read(identifier, removed)
            for tag in item.tags
            for digest in await self._below(f"{item.directory}/_manifests/tags/{tag}/index")
        }

    async def _identifiers(self) -> list[tuple[str, datetime]]:
        found = [(name, _time_of(name)) for name in sorted(await self._names(layout.trash_items()))]
        return [(name, removed) for name, removed in found if removed is not None]

    def _is_over(self, removed: datetime) -> bool:
        return self._clock() - removed >= self._keep

    async def _read(self, identifier: str, removed: datetime) -> list[Item]:
        found: list[Item] = []
        for entry in await self._names(layout.trash_item(identifier)):
            name = layout.leaseholder(entry)
            if not is_name(name):
                continue
            directory = layout.trash_item_repository(identifier, name)
            manifests = await self._below(f"{directory}/_manifests/revisions")
            tags = f"{directory}/_manifests/tags"
            pointed = {
                tag: await self._pointed(f"{tags}/{tag}/current/link")
                for tag in sorted(await self._names(tags))
            }
            blobs = tuple(await self._below(f"{directory}/_layers"))
            found.append(Item(identifier, name, removed, manifests, pointed, blobs))
        return found

    async def _below(self, directory: str) -> dict[Digest, str]:
        """Return the digests that have directories in `directory`, with these."""
        return {
            digest: f"{directory}/{digest.algorithm}/{digest.hex}"
            for algorithm in sorted(await self._names(directory))
            for digest in digests_of(algorithm, await self._names(f"{directory}/{algorithm}"))
        }

    async def _pointed(self, path: str) -> Digest | None:
        try:
            return await read_link(self._storage, path)
        except StorageError:  # damaged, which has been logged, or not there
            return None

    async def _names(self, path: str) -> list[str]:
        try:
            return [entry.name for entry in await self._storage.list(path)]
        except PathUnknownError:
            return []


def digests_of(algorithm: str, names: Collection[str]) -> list[Digest]:
    """Return the digests by `algorithm` whose hexadecimals are among `names`, in order."""
    found: list[Digest] = []
    for name in sorted(names):
        with suppress(DigestInvalidError):  # not ours
            found.append(Digest.parse(f"{algorithm}:{name}"))
    return found


def _time_of(identifier: str) -> datetime | None:
    matched = _IDENTIFIER.fullmatch(identifier)
    if matched is None:
        return None
    try:
        return datetime.strptime(matched[1], TIME_FORM).replace(tzinfo=UTC)
    except ValueError:
        return None
