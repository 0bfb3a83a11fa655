"""Integrity: whether everything in the tree is what it should be.

Reads only, and may run beside servers and collectors: what seems to be missing is looked for once
more, and what may be a step of something that is still going on is not told of.

What distribution leaves behind in everyday use is no problem: the directory of a link that it
deleted, the history of a tag with manifests that were deleted since.
"""

from collections.abc import AsyncIterator, Awaitable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from dockyard.clock import Clock
from dockyard.core.blobs import damage_of
from dockyard.core.evidence import Evidence
from dockyard.core.leases import Leases
from dockyard.core.links import LinkDamagedError, look_at_link
from dockyard.core.policy import Policy
from dockyard.core.problems import Kind, Problem, Watcher
from dockyard.core.purge import STARTED_LIMIT
from dockyard.core.trash import digests_of
from dockyard.errors import (
    DigestMismatchError,
    ManifestInvalidError,
    PathUnknownError,
    StorageError,
)
from dockyard.oci.digest import Digest
from dockyard.oci.manifest import Descriptor, Manifest
from dockyard.storage import layout
from dockyard.storage.interface import ObjectTooLargeError, Storage


LEFTOVER: Final = ".tmp"
"""How the names end that distribution 3 gives to files until they are written. Source: distribution
v3.1.1, registry/storage/driver/filesystem/driver.go, PutContent."""

UNFILED: Final = "it is no file"


@dataclass(frozen=True, slots=True)
class Rules:
    """What should be.

    Attributes:
        policy: what a manifest needs its repository to have.
        upload_age: how old an upload is that nobody will finish.
        clock: tells the time.
    """

    policy: Policy
    upload_age: timedelta
    clock: Clock


class Integrity:
    """Looks at every blob's length, and at every link and manifest.

    Attributes:
        suspects: blobs whose length is not the one that a manifest says; either may be wrong.
    """

    def __init__(self, storage: Storage, watcher: Watcher, rules: Rules) -> None:
        self._storage = storage
        self._watcher = watcher
        self._rules = rules
        self._evidence = Evidence(storage)
        self._leases = Leases(storage)
        self.suspects: Final[set[Digest]] = set()

    async def blobs(self) -> list[Digest]:
        """Return the digests of all that has a blob's name, in order."""
        found: list[Digest] = []
        for algorithm in await self._names(layout.BLOBS):
            for shard in await self._names(f"{layout.BLOBS}/{algorithm}"):
                names = await self._names(f"{layout.BLOBS}/{algorithm}/{shard}")
                found += digests_of(algorithm, names)
        return sorted(found)

    async def check_length(self, digest: Digest, *, counts: bool) -> None:
        """Look at a blob's length; tell the watcher of the blob if it `counts`."""
        path = layout.blob(digest)
        try:
            reader = await self._storage.open(path)
        except PathUnknownError:
            await self._check_absence(digest, path)
            return
        except StorageError as error:
            self._tell(Kind.UNREACHABLE, path, digest=digest, detail=str(error))
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
            for digest in await self._digests(f"{layout.repository(name)}/_layers"):
                path = layout.layer_link(name, digest)
                await self._told(name, path, self._layer(name, digest))
            for digest in await self._digests(layout.revisions(name)):
                path = layout.revision_link(name, digest)
                await self._told(name, path, self._revision(name, digest))
            for tag in await self._names(layout.tags(name)):
                await self._told(name, layout.tag(name, tag), self._tag(name, tag))
            for identifier in await self._names(layout.uploads(name)):
                await self._upload(name, layout.upload(name, identifier))

    async def _told(self, name: str, path: str, look: Awaitable[None]) -> None:
        """Look at one thing; the others are looked at although it can't be read."""
        try:
            await look
        except StorageError as error:
            self._tell(Kind.UNREACHABLE, path, name, detail=str(error))

    async def _check_absence(self, digest: Digest, path: str) -> None:
        """Tell of the name of a blob that can't be opened, unless it was collected meanwhile."""
        directory = path.removesuffix("/data")
        entries = await self._entries(directory)
        if "data" in entries:
            self._tell(Kind.DAMAGED_BLOB, path, digest=digest, detail=UNFILED)
        elif await self._evidence.is_settled(directory):
            self._tell(Kind.EMPTY_BLOB, directory, digest=digest)

    async def _layer(self, name: str, digest: Digest) -> None:
        path = layout.layer_link(name, digest)
        target = await self._target(Problem(Kind.DAMAGED_LINK, path, name, digest))
        if target is None or await self._evidence.size(target) is not None:
            return
        # The link comes before the blob, and the lease before the link.
        if await self._leases.is_held_in(name, target):
            return
        if await self._storage.exists(path) and await self._evidence.size(target) is None:
            self._tell(Kind.DANGLING_LAYER, path, name, digest)

    async def _revision(self, name: str, digest: Digest) -> None:
        path = layout.revision_link(name, digest)
        target = await self._target(Problem(Kind.DAMAGED_LINK, path, name, digest))
        if target is not None:
            manifest = await self._manifest(name, digest, target)
            if manifest is not None:
                await self._references(name, digest, manifest)

    async def _target(self, damaged: Problem) -> Digest | None:
        """Return what a link holds; `None` if there is nothing to follow.

        Args:
            damaged: what is to be told if it is damaged.
        """
        directory = damaged.path.removesuffix("/link")
        entries = await self._entries(directory)
        await self._leftovers(damaged.name, directory, entries)
        if "link" not in entries:
            return None  # removed meanwhile, or a directory alone, as distribution leaves it
        try:
            if damaged.digest is None:
                return await look_at_link(self._storage, damaged.path)
            return await self._evidence.target(damaged.path, damaged.digest)
        except PathUnknownError:
            if entries["link"]:
                self._watcher.found(replace(damaged, detail=UNFILED))
        except LinkDamagedError as error:
            self._watcher.found(replace(damaged, detail=error.damage))
        return None

    async def _leftovers(self, name: str, directory: str, entries: Mapping[str, bool]) -> None:
        for entry, is_directory in entries.items():
            path = f"{directory}/{entry}"
            unfinished = entry.endswith(LEFTOVER) and not is_directory
            if unfinished and await self._evidence.is_settled(path):
                self._tell(Kind.LEFTOVER, path, name)

    async def _manifest(self, name: str, digest: Digest, target: Digest) -> Manifest | None:
        path, where = layout.revision_link(name, digest), layout.blob(target)
        try:
            return await self._evidence.manifest(name, digest, target)
        except PathUnknownError:
            if await self._storage.exists(path):
                self._tell(Kind.DANGLING_REVISION, path, name, digest)
        except DigestMismatchError as error:
            detail = f"its bytes are {error.computed}"
            self._tell(Kind.DAMAGED_BLOB, where, name, target, detail)
        except (ObjectTooLargeError, ManifestInvalidError) as error:
            self._tell(Kind.UNREADABLE, path, name, digest, str(error))
        except StorageError as error:
            self._tell(Kind.UNREACHABLE, where, name, target, str(error))
        return None

    async def _references(self, name: str, digest: Digest, manifest: Manifest) -> None:
        policy = self._rules.policy
        config = () if manifest.config is None else (manifest.config,)
        # Of a type that nobody knows, nobody has looked whether it needs what it names.
        blobs = (*config, *manifest.layers) if manifest.is_image else ()
        missing = [
            str(each.digest)
            for each in blobs
            if policy.needs(each) and not await self._has(name, digest, each)
        ]
        missing += [
            str(child.digest)
            for child in manifest.children
            if policy.needs_child(child)
            and not await self._storage.exists(layout.revision_link(name, child.digest))
        ]
        path = layout.revision_link(name, digest)
        if missing and await self._storage.exists(path):
            self._tell(Kind.INCOMPLETE, path, name, digest, f"lacks {', '.join(missing)}")

    async def _has(self, name: str, digest: Digest, needed: Descriptor) -> bool:
        """Return whether what a manifest needs is stored; tell if it is and is not linked."""
        link = layout.layer_link(name, needed.digest)
        linked = await self._storage.exists(link)
        size = await self._evidence.size(needed.digest)
        if size is None:
            return linked and await self._is_elsewhere(link, needed.digest)
        if size != needed.size:
            self.suspects.add(needed.digest)
        if not linked and await self._storage.exists(layout.revision_link(name, digest)):
            why = f"needed by {digest}"
            self._watcher.found(
                Problem(Kind.MISSING_LINK, link, name, needed.digest, why, needed_by=digest)
            )
        return True

    async def _is_elsewhere(self, link: str, digest: Digest) -> bool:
        """Return whether a blob is stored by another algorithm, as distribution does."""
        try:
            return await self._evidence.size(await self._evidence.target(link, digest)) is not None
        except (PathUnknownError, LinkDamagedError):
            return False

    async def _tag(self, name: str, tag: str) -> None:
        path, directory = layout.tag_current(name, tag), layout.tag(name, tag)
        digest = await self._target(Problem(Kind.DAMAGED_LINK, path, name, tag=tag))
        if digest is None:
            is_set = "link" in await self._entries(path.removesuffix("/link"))
            if not is_set and await self._evidence.is_settled(directory):
                self._watcher.found(Problem(Kind.UNSET_TAG, directory, name, tag=tag))
        elif not await self._storage.exists(
            layout.revision_link(name, digest)
        ) and await self._storage.exists(path):  # else it was deleted meanwhile
            self._watcher.found(Problem(Kind.DANGLING_TAG, path, name, digest, tag=tag))
        # What it once pointed to may have been deleted.
        for digest in await self._digests(f"{layout.tag(name, tag)}/index"):
            path = layout.tag_index(name, tag, digest)
            await self._target(Problem(Kind.DAMAGED_LINK, path, name, digest, tag=tag))

    async def _upload(self, name: str, path: str) -> None:
        try:
            started = await self._started(f"{path}/startedat")
        except (StorageError, ValueError):
            if await self._evidence.is_settled(path):  # else it may begin at this moment
                self._tell(Kind.ORPHAN_UPLOAD, path, name, detail="no readable time of start")
            return
        if started < self._rules.clock() - self._rules.upload_age:
            self._tell(Kind.ORPHAN_UPLOAD, path, name, detail=f"began {started.isoformat()}")

    async def _started(self, path: str) -> datetime:
        text = (await self._storage.get(path, STARTED_LIMIT)).decode("ascii")
        started = datetime.fromisoformat(text)
        return started if started.tzinfo else started.replace(tzinfo=UTC)

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
        return [name for name, is_directory in (await self._entries(path)).items() if is_directory]

    async def _entries(self, path: str) -> Mapping[str, bool]:
        try:
            return await self._evidence.entries(path)
        except StorageError as error:
            self._tell(Kind.UNREACHABLE, path, detail=str(error))
            return {}

    def _tell(
        self, kind: Kind, path: str, name: str = "", digest: Digest | None = None, detail: str = ""
    ) -> None:
        self._watcher.found(Problem(kind, path, name, digest, detail))
