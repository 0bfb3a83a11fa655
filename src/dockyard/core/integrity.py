"""Integrity: whether everything in the tree is what it should be.

Reads only, and may run beside servers and collectors: what is missed in a list made earlier is
looked for once more, and what a collection has taken to its trash is not missing, since whoever
needs it brings it back.
"""

from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from dockyard.clock import Clock
from dockyard.core.blobs import damage_of
from dockyard.core.links import LinkDamagedError, read_link
from dockyard.core.manifests import MEDIA_TYPE_LIMIT, STORED_LIMIT
from dockyard.core.problems import Kind, Problem
from dockyard.core.purge import STARTED_LIMIT
from dockyard.core.trash import Trash, digests_of
from dockyard.errors import ManifestInvalidError, PathUnknownError, StorageError
from dockyard.oci import manifest as grammar, mediatype
from dockyard.oci.digest import Digest
from dockyard.oci.manifest import Manifest
from dockyard.storage import layout
from dockyard.storage.interface import ObjectTooLargeError, Storage


class Watcher(Protocol):
    """Is told what a check finds, as it finds it."""

    def found(self, problem: Problem) -> None:
        """Something is wrong."""
        ...

    def blob(self, size: int) -> None:
        """A blob of `size` bytes was looked at."""
        ...

    def repository(self, name: str) -> None:
        """The check comes to a repository."""
        ...


class Integrity:
    """Looks at every blob's length, and at every link and manifest.

    Args:
        storage: the tree.
        watcher: is told what is found.
        clock: tells the time.
        upload_age: how old an upload is that nobody will finish.
    """

    def __init__(
        self, storage: Storage, watcher: Watcher, clock: Clock, upload_age: timedelta
    ) -> None:
        self._storage = storage
        self._watcher = watcher
        self._clock = clock
        self._upload_age = upload_age
        self._stored: Final[set[Digest]] = set()

    async def blobs(self) -> list[Digest]:
        """Return the digests of all stored blobs, in order."""
        found = [
            digest
            for algorithm in await self._names(layout.BLOBS)
            for shard in await self._names(f"{layout.BLOBS}/{algorithm}")
            for digest in digests_of(
                algorithm, await self._names(f"{layout.BLOBS}/{algorithm}/{shard}")
            )
        ]
        self._stored.update(found)
        self._stored.update(await Trash(self._storage).blobs())
        return sorted(found)

    async def check_length(self, digest: Digest, *, counts: bool) -> None:
        """Look at a blob's length; tell of it if it `counts`."""
        path = layout.blob(digest)
        try:
            reader = await self._storage.open(path)
        except PathUnknownError:
            self._stored.discard(digest)  # collected meanwhile, or a directory alone
            return
        except StorageError as error:
            self._tell(Kind.UNREACHABLE, path, detail=str(error))
            return
        damage = damage_of(reader, digest)
        if counts:
            self._watcher.blob(reader.size)
        reader.close()
        if damage is not None:
            self._tell(Kind.DAMAGED_BLOB, path, digest=digest, detail=damage)

    async def repositories(self) -> None:
        """Look at every repository."""
        async for name in self._repositories("", layout.REPOSITORIES):
            self._watcher.repository(name)
            await self._layers(name)
            await self._revisions(name)
            await self._tags(name)
            await self._uploads(name)

    async def _layers(self, name: str) -> None:
        for digest in await self._digests(f"{layout.repository(name)}/_layers"):
            path = layout.layer_link(name, digest)
            target = await self._target(name, path, digest)
            if target is not None and not await self._is_stored(target):
                self._tell(Kind.DANGLING_LAYER, path, name, digest)

    async def _revisions(self, name: str) -> None:
        for digest in await self._digests(layout.revisions(name)):
            path = layout.revision_link(name, digest)
            target = await self._target(name, path, digest)
            if target is None:
                continue
            if not await self._is_stored(target):
                self._tell(Kind.DANGLING_REVISION, path, name, digest)
                continue
            manifest = await self._manifest(name, path, target)
            if manifest is not None:
                await self._references(name, path, digest, manifest)

    async def _target(self, name: str, path: str, digest: Digest) -> Digest | None:
        """Return what a link holds; `None` if there is nothing to follow."""
        try:
            target = await read_link(self._storage, path)
        except PathUnknownError:
            return None  # removed meanwhile, or a directory alone, as distribution leaves it
        except LinkDamagedError:
            self._tell(Kind.DAMAGED_LINK, path, name, digest)
            return None
        except StorageError as error:
            self._tell(Kind.UNREACHABLE, path, name, detail=str(error))
            return None
        if target.algorithm == digest.algorithm and target != digest:
            self._tell(Kind.DAMAGED_LINK, path, name, digest, f"holds {target}")
            return None
        return target

    async def _manifest(self, name: str, path: str, target: Digest) -> Manifest | None:
        try:
            content = await self._content(target)
            if Digest.of(content, target.algorithm) != target:
                where = layout.blob(target)
                self._tell(Kind.DAMAGED_BLOB, where, name, target, "its bytes have another digest")
                return None
            noted = await self._noted_type(path)
            return grammar.parse_stored(content) or grammar.parse(content, noted)
        except PathUnknownError:
            return None  # deleted and collected meanwhile
        except (ObjectTooLargeError, ManifestInvalidError) as error:
            self._tell(Kind.UNREADABLE, path, name, target, str(error))
        except StorageError as error:
            self._tell(Kind.UNREACHABLE, layout.blob(target), name, target, str(error))
        return None

    async def _content(self, target: Digest) -> bytes:
        try:
            return await self._storage.get(layout.blob(target), STORED_LIMIT)
        except PathUnknownError:
            return await self._storage.get(layout.trash_blob(target), STORED_LIMIT)

    async def _noted_type(self, link: str) -> str:
        try:
            path = f"{link.removesuffix('/link')}/mediatype"
            return (await self._storage.get(path, MEDIA_TYPE_LIMIT)).decode("latin-1")
        except PathUnknownError:
            return mediatype.OCTETS

    async def _references(self, name: str, path: str, digest: Digest, manifest: Manifest) -> None:
        config = () if manifest.config is None else (manifest.config,)
        missing: list[str] = []
        for descriptor in (*config, *manifest.layers) if manifest.is_image else ():
            link = layout.layer_link(name, descriptor.digest)
            if await self._storage.exists(link):
                continue  # whether it leads anywhere is said of the link
            if await self._is_stored(descriptor.digest):
                self._tell(Kind.MISSING_LINK, link, name, descriptor.digest, f"needed by {digest}")
            elif not (descriptor.urls and descriptor.media_type in mediatype.NON_DISTRIBUTABLE):
                missing.append(str(descriptor.digest))
        missing += [
            str(child.digest)
            for child in manifest.children
            if not await self._storage.exists(layout.revision_link(name, child.digest))
        ]
        if missing and await self._storage.exists(path):
            self._tell(Kind.INCOMPLETE, path, name, digest, f"lacks {', '.join(missing)}")

    async def _tags(self, name: str) -> None:
        for tag in await self._names(layout.tags(name)):
            path = layout.tag_current(name, tag)
            try:
                digest = await read_link(self._storage, path)
            except PathUnknownError:
                continue  # half deleted or not yet made
            except LinkDamagedError:
                self._tell(Kind.DAMAGED_LINK, path, name, detail=f"tag {tag}")
                continue
            except StorageError as error:
                self._tell(Kind.UNREACHABLE, path, name, detail=str(error))
                continue
            if not await self._storage.exists(layout.revision_link(name, digest)):
                self._tell(Kind.DANGLING_TAG, path, name, digest, f"tag {tag}")

    async def _uploads(self, name: str) -> None:
        for identifier in await self._names(layout.uploads(name)):
            path = layout.upload(name, identifier)
            try:
                text = await self._storage.get(
                    layout.upload_started(name, identifier), STARTED_LIMIT
                )
                started = datetime.fromisoformat(text.decode("ascii"))
            except (StorageError, ValueError):
                started = datetime.max.replace(tzinfo=UTC)
                if not await self._storage.exists(path):
                    continue  # finished meanwhile
                self._tell(Kind.ORPHAN_UPLOAD, path, name, detail="no readable time of start")
            started = started if started.tzinfo else started.replace(tzinfo=UTC)
            if started < self._clock() - self._upload_age:
                self._tell(Kind.ORPHAN_UPLOAD, path, name, detail=f"began {started.isoformat()}")

    async def _is_stored(self, digest: Digest) -> bool:
        return (
            digest in self._stored
            or await self._storage.exists(layout.blob(digest))
            or await self._storage.exists(layout.trash_blob(digest))
        )

    async def _repositories(self, parent: str, directory: str) -> AsyncIterator[str]:
        for entry in sorted(await self._names(directory)):
            if entry.startswith("_"):
                continue
            name = f"{parent}/{entry}" if parent else entry
            below = f"{directory}/{entry}"
            if any(each.startswith("_") for each in await self._names(below)):
                yield name
            async for deeper in self._repositories(name, below):
                yield deeper

    async def _digests(self, directory: str) -> list[Digest]:
        return [
            digest
            for algorithm in sorted(await self._names(directory))
            for digest in digests_of(algorithm, await self._names(f"{directory}/{algorithm}"))
        ]

    async def _names(self, path: str) -> Collection[str]:
        try:
            return [entry.name for entry in await self._storage.list(path) if entry.is_directory]
        except PathUnknownError:
            return ()
        except StorageError as error:
            self._tell(Kind.UNREACHABLE, path, detail=str(error))
            return ()

    def _tell(
        self, kind: Kind, path: str, name: str = "", digest: Digest | None = None, detail: str = ""
    ) -> None:
        self._watcher.found(Problem(kind, path, name, digest, detail))
